"""Hand a meta-trained start over as a plain PEFT adapter that needs nothing of icl."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.exchange.card_use import Exported
from icl.exchange.inner_loop import inner_loop
from icl.exchange.model_card import base_name, model_card
from icl.exchange.sentence_folder import ADAPTER, sentence_folder
from icl.exchange.trained import check_base, find_learner, trained_state
from icl.learners.gradient import inner_loop_alone
from icl.models.loading.named import model_path
from icl.tools.own_class import is_own

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from torch import Tensor

_CONFIG = "adapter_config.json"
RATES = "icl_meta_learning.json"
_FEW = 64  # rates of a tensor that stand in the JSON; more go to a file of tensors
_RATE = "rate/"
_HEADS = "lora."  # before the factors of a learner with a head on embeddings


def export_learner(
    run: Path, learner: str, out: Path, *, adapter_only: bool = False, with_base: bool = False
) -> Exported:
    """Write what a run has meta-trained so that other tools load it, without icl.

    LoRA factors become a PEFT adapter, which ``PeftModel.from_pretrained(model, out)`` loads into
    the base model (an encoder's lies in ``adapter``: beside the merged weights transformers would
    add it to them again). ``icl_meta_learning.json`` tells the method, its inner loop, and learned
    rates by the names of PEFT's tensors (those of Meta-SGD, one for each element, in
    ``rates.safetensors``). What is trained on an encoder, or as a head on embeddings, becomes a
    whole model of sentence-transformers too, see `icl.exchange.sentence_folder`, with the head as
    ``head.py`` or the inner loop as ``adapt.py``. ``README.md`` is the model card, with data,
    episodes, figures and their intervals.

    Args:
        run: a run's folder.
        learner: the learner's name in it.
        out: the directory to make; it must not exist, or be empty.
        adapter_only: write no model of sentence-transformers.
        with_base: write the base model too, beside an encoder's adapter, in ``base``.

    Returns:
        What was written.

    Raises:
        IclError: no such run or learner, one that was not meta-trained or whose training is not
            finished, a base that is another now or cannot be read, what no other tool can load, or
            a directory that is in use or cannot be written.
    """
    found = find_learner(run, learner, meta_trained=True)
    state = trained_state(run, found)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise IclError(f"The directory {out} is not empty; give another.")
    check_base(run, found)
    factors = adapter_of(state)
    sentence = None if adapter_only else sentence_folder(run, found, state)
    if not factors and sentence is None:
        mend = "; drop `--adapter-only`" if adapter_only else ""
        raise IclError(f"The method {found.method!r} has no LoRA factors to export{mend}.")
    if with_base and (sentence is None or not factors):
        raise IclError(
            "`--with-base` is for the adapter of an encoder that becomes a model of"
            " sentence-transformers; drop it."
        )
    inner: dict[str, Any] = {}
    if sentence is not None and factors and not sentence.rule:
        inner = inner_loop(found, sentence.backbone)
    exported = Exported(
        out,
        adapter=bool(factors),
        sentence=sentence is not None,
        head=sentence is not None and bool(sentence.rule),
        inner=bool(inner),
        base=with_base,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if factors:
            place = out / ADAPTER if sentence is not None else out
            place.mkdir(exist_ok=True)
            write_adapter(
                place,
                factors,
                found.params,
                method=found.method,
                model=_where(found.base.name),
                revision=found.base.revision,
                more=inner,
            )
            if inner:
                shutil.copyfile(inner_loop_alone.__file__, out / "adapt.py")
        if sentence is not None:
            sentence.write(out, with_base)
        (out / "README.md").write_text(model_card(run, found, exported), "utf-8")
    except OSError as error:
        raise IclError(f"Cannot write {out}: {error.strerror or error}.") from error
    return exported


def adapter_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the LoRA factors of a trained state, and their rates, by the adapted modules' names.

    A head's state has its factors under ``lora.`` and its own tensors under ``net.``, which are
    left out; without factors there is nothing.
    """
    found = {n.removeprefix(_HEADS): v for n, v in state.items() if not n.startswith("net.")}
    return found if any(n.endswith(".lora_A") for n in found) else {}


def _where(name: str) -> str:
    """Return where a plain process finds the base: a Hub id, or a directory of this machine."""
    path = model_path(name) if not is_own(name) else name
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def write_adapter(
    out: Path,
    state: Mapping[str, Tensor],
    params: Mapping[str, Any],
    *,
    method: str,
    model: str,
    revision: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write meta-parameters as a PEFT adapter and a JSON of how to adapt from it.

    Args:
        out: a directory.
        state: meta-parameters by icl's names, see `icl.models.adapters.lora`; learned rates under
            ``rate/``.
        params: the learner's parameters.
        method: the learner's method.
        model: the base model's name, a Hub id or a directory.
        revision: of the base on the Hub.
        more: what else the JSON is to say.

    Raises:
        IclError: there are no LoRA factors.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    factors = {n: v for n, v in state.items() if n.rsplit(".", 1)[-1] == "lora_A"}
    if not factors:
        raise IclError(f"The method {method!r} has no LoRA factors to export.")
    own = {n: v for n, v in state.items() if not n.startswith(_RATE) and ".lora_" in n}
    config = LoraConfig(
        r=int(params["rank"]),
        lora_alpha=params["alpha"],
        target_modules=sorted(name.rsplit(".", 1)[0] for name in factors),
        lora_dropout=0.0,
        bias="none",
        use_rslora=params.get("variant") == "rslora",
        use_dora=params.get("variant") == "dora",
        inference_mode=True,
        base_model_name_or_path=model,
        revision=revision,
    )
    config.save_pretrained(str(out))
    save_file(
        {_peft(name): value.contiguous() for name, value in own.items()},
        out / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    rates = {n.removeprefix(_RATE): v for n, v in state.items() if n.startswith(_RATE)}
    many = {_peft(n): v.contiguous() for n, v in rates.items() if v.numel() > _FEW}
    if many:
        save_file(many, out / "rates.safetensors", metadata={"format": "pt"})
    inner = {key: value for key, value in params.items() if key.startswith(("inner_", "adapt_"))}
    text = {
        "method": method,
        **inner,
        **(more or {}),
        "rates": {_peft(n): v.tolist() for n, v in rates.items() if v.numel() <= _FEW},
        "rates_file": "rates.safetensors" if many else None,
    }
    (out / RATES).write_text(json.dumps(text, indent=1) + "\n", "utf-8")


def _peft(name: str) -> str:
    """Return PEFT's name for one of our tensors; names of heads stay as they are."""
    if ".lora_" not in name:
        return name
    suffix = "" if name.endswith("lora_magnitude_vector") else ".weight"
    return f"base_model.model.{name}{suffix}"


def push_to_hub(
    folder: Path, repository: str, *, private: bool = False, api: HfApi | None = None
) -> str:
    """Upload an exported adapter or model, with its card, as a model repository of the Hub.

    Args:
        folder: what `export_learner` wrote.
        repository: ``owner/name``; made where it is not there.
        private: whether a new repository is private.
        api: the Hub's client; by default one with the token of ``hf auth login``.

    Returns:
        The repository's address.

    Raises:
        IclError: there is no adapter in the folder, or the Hub refuses it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    whole = (folder / "modules.json").is_file()
    config = (folder / ADAPTER if whole else folder) / _CONFIG
    if not (whole or config.is_file()):
        raise IclError(f"{folder} holds no adapter or model; make one with `icl export`.")
    client = api or HfApi()
    try:
        made = client.create_repo(repository, private=private, exist_ok=True)
        with TemporaryDirectory() as place:
            sent = Path(shutil.copytree(folder, Path(place) / "adapter"))
            if config.is_file():
                _forget_place(sent / config.relative_to(folder))
            client.upload_folder(
                repo_id=made.repo_id, folder_path=sent, commit_message="Exported by icl"
            )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise IclError(
            f"The Hub does not take {repository!r}: {reason}; log in with `hf auth login`, or name"
            " a repository that you may write. The export lies in "
            f"{folder}."
        ) from error
    return str(made)


def _forget_place(path: Path) -> None:
    """Name a base that is a directory here by its own name alone: where it lies is nobody's."""
    said = json.loads(path.read_text("utf-8"))
    name, on_hub = base_name(str(said.get("base_model_name_or_path") or ""))
    if not on_hub:
        path.write_text(json.dumps({**said, "base_model_name_or_path": name}, indent=2), "utf-8")
