"""What sentence-transformers' own files beside a model say of how it embeds.

``modules.json`` lists what follows the transformer: a pooling, then maybe linear maps (``Dense``)
and a scaling to unit length, which is left to the learner that uses the vectors.
``sentence_bert_config.json`` says how many tokens of a text are read and whether letters are made
small, ``config_sentence_transformers.json`` which prompt stands before every text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from icl.errors import IclError
from icl.models.loading.named import file_of

if TYPE_CHECKING:
    from icl.models.backbone import Backbone
    from icl.models.embedding.pooling import Pooling

_MODULES, _PROMPTS = "modules.json", "config_sentence_transformers.json"
_TOKENS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_POOLINGS: dict[str, Pooling] = {
    "cls": "cls",
    "cls_token": "cls",
    "max": "max",
    "max_tokens": "max",
    "mean": "mean",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean-sqrt",
    "weightedmean": "weighted-mean",
    "weightedmean_tokens": "weighted-mean",
    "lasttoken": "last",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """How a model of sentence-transformers embeds.

    Attributes:
        pooling: of the last states, special tokens counted.
        after: names of the directories of linear maps that follow, in order.
        longest: tokens of a text that are read, special tokens counted; None for all.
        lower: make letters small.
        prompt: stands before every text.
        refused: why its modules cannot be applied here; empty where they can.
    """

    pooling: Pooling = "mean"
    after: tuple[str, ...] = ()
    longest: int | None = None
    lower: bool = False
    prompt: str = ""
    refused: str = ""

    def shown(self, text: str) -> str:
        """Return a text as its tokenizer is to see it."""
        if not self.lower:
            return text
        from tokenizers import normalizers

        return str(normalizers.Lowercase().normalize_str(text))


class Dense(nn.Module):
    """A linear map with an activation, as sentence-transformers has them after the pooling."""

    def __init__(self, folder: str, files: Mapping[str, Path], name: str) -> None:
        """Read it from the model's files; raises `IclError` where these are damaged or odd."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        super().__init__()
        said = _json(files, f"{folder}/config.json", name)
        path = str(said.get("activation_function", "torch.nn.modules.activation.Tanh"))
        kind = getattr(nn, path.rpartition(".")[2], None)
        known = path.startswith("torch.nn.") and isinstance(kind, type)
        inner = {said.get(f"module_{end}_name") or _VECTOR for end in ("input", "output")}
        weights = files.get(f"{folder}/model.safetensors")
        odd = "activation" if not known else "input" if inner != {_VECTOR} else ""
        if odd or said.get("use_residual") or weights is None:
            what = odd or ("residual" if weights is not None else "model.safetensors")
            raise IclError(_refusal(name, f"{folder} ({what})"))
        try:
            self.linear = nn.Linear(
                int(said["in_features"]), int(said["out_features"]), bool(said.get("bias", True))
            )
            self.activation = kind()  # type: ignore[misc]
            self.load_state_dict(load_file(weights))
        except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise IclError(
                f"The model {name!r} has a damaged {folder} ({error}); fetch it again."
            ) from error
        self.requires_grad_(False)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map vectors, (texts, width) -> (texts, other width), on their device."""
        found: Tensor = self.to(vectors.device).activation(self.linear(vectors))
        return found


_VECTOR = "sentence_embedding"


def sentence_of(backbone: Backbone) -> Sentence | None:
    """Return what sentence-transformers' files of a loaded model say; None where it has none.

    Raises:
        IclError: a file is damaged.
    """
    files = {} if backbone.origin is None else backbone.origin.files
    if _MODULES not in files:
        return None
    name = backbone.name
    modules = _json(files, _MODULES, name)
    try:
        kinds = [str(m["type"]).rpartition(".")[2] for m in modules]
        paths = [str(m["path"]) for m in modules]
    except (TypeError, KeyError) as error:
        raise _damaged(name, _MODULES) from error
    tokens: Any = next((_json(files, file, name) for file in _TOKENS if file in files), {})
    prompts: Any = _json(files, _PROMPTS, name) if _PROMPTS in files else {}
    pooled = f"{paths[1]}/config.json" if kinds[1:2] == ["Pooling"] else ""
    after = list(zip(kinds[2:], paths[2:], strict=True))
    if after and after[-1][0] == "Normalize":
        after.pop()
    strange = [layer for layer, _ in after if layer != "Dense"]
    if kinds[:1] != ["Transformer"] or paths[0] or not pooled:
        strange.insert(0, " and ".join(kinds[:2]))
    pooling, odd = _pooling(_json(files, pooled, name)) if pooled else ("mean", "")
    try:
        longest = tokens.get("max_seq_length")
        return Sentence(
            pooling,
            tuple(path for _, path in after),
            None if longest is None else int(longest),
            bool(tokens.get("do_lower_case")),
            str(prompts.get("prompts", {}).get(prompts.get("default_prompt_name"), "")),
            _refusal(name, strange[0]) if strange else _refusal(name, odd) if odd else "",
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise _damaged(name, "sentence-transformers' files") from error


def _pooling(said: Any) -> tuple[Pooling, str]:
    """Return the pooling of a configuration, and what of it is not done here."""
    modes = said.get("pooling_mode")
    if modes is None:
        on = [key.removeprefix("pooling_mode_") for key, value in said.items() if value is True]
        modes = [mode for mode in on if mode in _POOLINGS] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        return "mean", f"pooling {' and '.join(map(str, modes))}"
    odd = "" if said.get("include_prompt", True) else "pooling without the prompt"
    return _POOLINGS[modes[0]], odd


def fetch_modules(name: str, revision: str | None) -> None:
    """Fetch what sentence-transformers has beside a Hub model, where it has anything."""
    modules = file_of(name, _MODULES, revision)
    if modules is None:
        return
    for file in (_PROMPTS, *_TOKENS[:1]):
        file_of(name, file, revision)
    for module in _json({_MODULES: modules}, _MODULES, name):
        path = str(module.get("path", "")) if isinstance(module, dict) else ""
        if path:
            for file in ("config.json", "model.safetensors"):
                file_of(name, f"{path}/{file}", revision)


def _json(files: Mapping[str, Path], file: str, name: str) -> Any:
    try:
        found = json.loads(files[file].read_text("utf-8"))
    except (OSError, ValueError, RecursionError, KeyError) as error:
        raise _damaged(name, file) from error
    if not isinstance(found, list if file == _MODULES else dict):
        raise _damaged(name, file)
    return found


def _damaged(name: str, file: str) -> IclError:
    return IclError(f"The model {name!r} has a damaged or no {file}; save or fetch it again.")


def _refusal(name: str, what: str) -> str:
    return (
        f"The model {name!r} embeds with sentence-transformers' {what}, which is not done here;"
        " give `pooling`, with which the last states are pooled as they are."
    )
