"""An encoder and what a learner has trained on it, as sentence-transformers loads it.

The directory is whole: ``modules.json`` names the transformer, with its adapter merged into the
weights, the pooling, the base's own linear maps, the trained projection as one more of them, and a
scaling to unit length; ``config_sentence_transformers.json`` has what stands before every text.
Beside them lies ``head.py`` for heads that a mean of vectors does not make.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.exchange.trained import Found, base_of
from icl.learners import registry
from icl.learners.embedding.episodic import EpisodicLearner
from icl.learners.embedding.features import FeatureParams

if TYPE_CHECKING:
    from torch import Tensor

    from icl.models.backbone import Backbone
    from icl.models.embedding.pooling import Pooling

ADAPTER = "adapter"  # PEFT's files, apart: beside the weights transformers would load them again
_NET = "net."
_POOLINGS: Mapping[Pooling, str] = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean-sqrt": "mean_sqrt_len_tokens",
    "weighted-mean": "weightedmean_tokens",
    "last": "lasttoken",
}


@dataclass(frozen=True)
class SentenceFolder:
    """What is to be written.

    Attributes:
        found: the learner.
        backbone: its model.
        state: its trained state.
        rule: of `icl.learners.embedding.heads.alone`; empty for a gradient method.
        pooling: of the last states.
        prompt: stands before every text.
        dense: the directories of the base's own linear maps.
        normalise: whether vectors are scaled to unit length at the end.
        lower: make letters small.
    """

    found: Found
    backbone: Backbone
    state: Mapping[str, Tensor]
    rule: str
    pooling: Pooling
    prompt: str
    dense: Sequence[str]
    normalise: bool
    lower: bool

    def write(self, out: Path, with_base: bool) -> None:
        """Write it into a directory, which holds a PEFT adapter in `ADAPTER` where there is one.

        Raises:
            OSError: it cannot be written.
        """
        self._write_transformer(out, with_base)
        modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
        width: Any = self.backbone.model.config
        pooled = {
            "word_embedding_dimension": int(width.get_text_config().hidden_size),
            f"pooling_mode_{_POOLINGS[self.pooling]}": True,
        }
        if self.pooling != "mean":  # which is on unless it is said to be off
            pooled["pooling_mode_mean_tokens"] = False
        _write(out / "1_Pooling" / "config.json", pooled)
        for name in self.dense:
            modules.append(("Dense", f"{len(modules)}_Dense"))
            self._copy_dense(name, out / modules[-1][1])
        projection = self._projection()
        if projection is not None:
            modules.append(("Dense", f"{len(modules)}_Dense"))
            _write_dense(out / modules[-1][1], projection)
        if self.normalise:
            modules.append(("Normalize", f"{len(modules)}_Normalize"))
            (out / modules[-1][1]).mkdir()
        said = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ]
        _write(out / "modules.json", said)
        prompts = {"query": self.prompt, "document": self.prompt} if self.prompt else {}
        _write(
            out / "config_sentence_transformers.json",
            {
                "prompts": prompts,
                "default_prompt_name": "query" if prompts else None,
                "similarity_fn_name": "cosine",
            },
        )
        longest = {"max_seq_length": self.backbone.context_length, "do_lower_case": self.lower}
        _write(out / "sentence_bert_config.json", longest)
        if self.rule:
            self._write_head(out)

    def _write_transformer(self, out: Path, with_base: bool) -> None:
        """Write the model's weights, with an adapter merged into them, and its tokenizer."""
        import torch
        from peft import PeftModel
        from transformers import AutoModel

        from icl.models.loading.named import model_path

        config = self.found.base
        model: Any = AutoModel.from_pretrained(
            model_path(config.name),
            revision=config.revision,
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
        tokenizer: Any = self.backbone.tokenizer
        if (out / ADAPTER).is_dir():
            if with_base:
                model.save_pretrained(out / "base")
                tokenizer.save_pretrained(out / "base")
            adapted = PeftModel.from_pretrained(model, str(out / ADAPTER))
            model = adapted.merge_and_unload(safe_merge=True)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)

    def _copy_dense(self, name: str, to: Path) -> None:
        assert self.backbone.origin is not None
        to.mkdir()
        for file in ("config.json", "model.safetensors"):
            shutil.copyfile(self.backbone.origin.files[f"{name}/{file}"], to / file)

    def _projection(self) -> Tensor | None:
        """Return the trained projection as one matrix ``I + U D``, shape (width, width)."""
        import torch

        down, up = (self.state.get(f"{_NET}{name}") for name in ("down", "up"))
        if down is None or up is None:
            return None
        whole = torch.eye(len(up), dtype=torch.float64) + up.double() @ down.double()
        return whole.float()

    def _write_head(self, out: Path) -> None:
        from safetensors.torch import save_file

        from icl.learners.embedding.heads import alone

        kept = {name: self.state[f"{_NET}{name}"].contiguous() for name in alone.TENSORS[self.rule]}
        if kept:
            save_file(kept, out / "head.safetensors", metadata={"format": "pt"})
        told = ("metric", "interactions", "C")
        said = {name: self.found.params[name] for name in told if name in self.found.params}
        _write(out / "head.json", {"rule": self.rule, **said})
        shutil.copyfile(alone.__file__, out / "head.py")


def sentence_folder(run: Path, found: Found, state: Mapping[str, Tensor]) -> SentenceFolder | None:
    """Return what to write for a learner; None for one that scores label words.

    Nothing is written yet. The base is loaded, and held to be the one of the run.

    Raises:
        IclError: it embeds in a way, or answers by a network, that sentence-transformers and plain
            torch cannot have.
    """
    learner = registry.learner_class(found.method)
    heads = getattr(learner, "trains", "") == "head"
    if not heads and not _is_encoder(found):
        return None
    params = registry.validate(found.method, found.params)
    rule = learner.alone(params) if issubclass(learner, EpisodicLearner) else ""
    config = found.base
    if heads and not rule:
        raise _refused(found, "it answers by a network that reads the whole support set")
    if config.quantise or config.trust_remote_code:
        what = "quantised weights" if config.quantise else "code of its own"
        raise _refused(found, f"its model {config.name!r} has {what}")
    backbone = base_of(run, found)
    if isinstance(params, FeatureParams):
        return _of_features(found, backbone, state, rule, params)
    lower = (own := _own(backbone)) is not None and own.lower
    return SentenceFolder(found, backbone, state, "", "mean", "", (), True, lower)


def _of_features(
    found: Found, backbone: Backbone, state: Mapping[str, Tensor], rule: str, params: FeatureParams
) -> SentenceFolder:
    """Return it for a head on embeddings, which may be made in many ways."""
    from icl.models.embedding.embedder import Embedder
    from icl.models.embedding.own_vectors import embedder_of, unsaid

    embedder = embedder_of(backbone, params.layer, params.pooling, params.instruction)
    if not isinstance(embedder, Embedder):
        raise _refused(found, f"its model {backbone.name!r} makes vectors by itself")
    if embedder.layer not in (-1, backbone.depth):
        why = (
            f"it reads layer {embedder.layer} of {backbone.depth}, and only the last is read there"
        )
        raise _refused(found, why)
    if params.in_template(unsaid(backbone)):
        raise _refused(found, "it embeds whole prompts")
    own = _own(backbone)
    by_files = embedder.pooling is None and own is not None
    pooling = embedder.pooling or ("mean" if own is None else own.pooling)
    if pooling not in _POOLINGS or not (by_files or backbone.bidirectional):
        raise _refused(found, f"it pools by {pooling!r}, leaving tokens out that are read there")
    return SentenceFolder(
        found,
        backbone,
        state,
        rule,
        pooling,
        embedder.before,
        own.after if by_files and own is not None else (),
        params.normalise,
        own is not None and own.lower,
    )


def _own(backbone: Backbone) -> Any:
    from icl.models.embedding.sentence import sentence_of

    return sentence_of(backbone)


def _is_encoder(found: Found) -> bool:
    from transformers import AutoConfig

    from icl.models.loading.load import is_encoder
    from icl.models.loading.named import faults_told, model_path
    from icl.tools.own_class import is_own

    config = found.base
    if is_own(config.name) or config.trust_remote_code:
        return False
    with faults_told(config.name):
        path = model_path(config.name)
        return is_encoder(
            AutoConfig.from_pretrained(path, revision=config.revision, trust_remote_code=False)
        )


def _refused(found: Found, why: str) -> IclError:
    return IclError(
        f"The learner {found.name!r} cannot become a sentence-transformers model, since {why}; use"
        " it by `icl predict --from`, or give `--adapter-only` where it has trained an adapter."
    )


def _write_dense(folder: Path, weight: Tensor) -> None:
    from safetensors.torch import save_file

    out, inputs = weight.shape
    said = {
        "in_features": inputs,
        "out_features": out,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    _write(folder / "config.json", said)
    save_file({"linear.weight": weight}, folder / "model.safetensors", metadata={"format": "pt"})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
