"""Hand a meta-trained start over as a plain PEFT adapter that needs nothing of icl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.config import load_config
from icl.errors import IclError, did_you_mean
from icl.evaluation.runfolder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

RATES = "icl_meta_learning.json"
_FEW = 64  # rates of a tensor that stand in the JSON; more go to a file of tensors
_PARAMETER = "parameter/"
_RATE = "rate/"


def export_learner(run: Path, learner: str, out: Path) -> Path:
    """Write a run's meta-trained LoRA start as a PEFT adapter's directory.

    ``PeftModel.from_pretrained(model, out)`` loads it into the base model. Beside PEFT's two files
    stands ``icl_meta_learning.json``: the method, its inner loop, and learned rates by the names of
    PEFT's tensors (those of Meta-SGD, one for each element, in ``rates.safetensors``).

    Args:
        run: a run's folder.
        learner: the learner's name in it.
        out: the directory to make; it must not exist, or be empty.

    Returns:
        `out`.

    Raises:
        IclError: no such run or learner, one that was not meta-trained or has no LoRA factors, or a
            directory that is in use or cannot be written.
    """
    folder = RunFolder(run)
    roster = folder.read_json("run.json")
    if roster is None:
        raise IclError(f"{run} is not a run's folder: it has no run.json.")
    rows = {row["name"]: row for row in roster["learners"]}
    if learner not in rows:
        raise IclError(f"The run {run} has no learner {learner!r}." + did_you_mean(learner, rows))
    row = rows[learner]
    if not row.get("training"):
        raise IclError(
            f"The learner {learner!r} of {run} has no meta-trained state; let its training finish,"
            " or name a learner that is meta-trained."
        )
    config = load_config(run / "config.yaml")
    state = _trained(run / row["folder"], row["folder"])
    params = config.learners[learner].params().model_dump(mode="json")
    if out.exists() and any(out.iterdir()):
        raise IclError(f"The directory {out} is not empty; give another.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_adapter(out, state, params, method=row["method"], model=config.model.name)
    except OSError as error:
        raise IclError(f"Cannot write {out}: {error.strerror or error}.") from error
    return out


def write_adapter(
    out: Path, state: Mapping[str, Tensor], params: Mapping[str, Any], *, method: str, model: str
) -> None:
    """Write meta-parameters as a PEFT adapter and a JSON of how to adapt from it.

    Args:
        out: a directory.
        state: meta-parameters by icl's names, see `icl.models.lora`; learned rates under ``rate/``.
        params: the learner's parameters.
        method: the learner's method.
        model: the base model's name.

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
        use_rslora=params["variant"] == "rslora",
        use_dora=params["variant"] == "dora",
        inference_mode=True,
        base_model_name_or_path=model,
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


def _trained(folder: Path, identity: str) -> dict[str, Tensor]:
    from icl.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(folder, identity)
    if checkpoint is None:
        raise IclError(f"There is no checkpoint in {folder}; run the experiment again.")
    return {
        name.removeprefix(_PARAMETER): value
        for name, value in checkpoint.tensors.items()
        if name.startswith(_PARAMETER)
    }
