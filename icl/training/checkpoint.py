"""Checkpoints: one safetensors file each, written atomically, checked by hash when read."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from icl.errors import IclError

_NAME = re.compile(r"checkpoint-(\d{8})\.safetensors")
_KEEP = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The whole state of a training run after some steps.

    Attributes:
        step: outer steps done.
        tensors: meta-parameters and optimiser state by name.
        metadata: anything else, as strings; `identity` says which run it belongs to.
    """

    step: int
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically and keep the last two.

    Raises:
        IclError: the folder cannot be written; earlier checkpoints stay.
    """
    target = folder / f"checkpoint-{checkpoint.step:08d}.safetensors"
    draft = target.with_suffix(f".{os.getpid()}.tmp")
    metadata = {**checkpoint.metadata, "step": str(checkpoint.step)}
    metadata["sha256"] = _digest(checkpoint.tensors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(save(dict(checkpoint.tensors), metadata))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise IclError(
            f"The checkpoint {target} cannot be written: {error.strerror}; free some space or "
            "choose another run folder."
        ) from error
    for stale in [*_by_age(folder)[:-_KEEP], *folder.glob("checkpoint-*.tmp")]:
        stale.unlink(missing_ok=True)


def _by_age(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name))


def load_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """Return the newest whole checkpoint of this run, or None.

    A damaged file is named in one line on standard error, and the one before it is used. A
    checkpoint of another run (another `identity`) is passed over.
    """
    for path in reversed(_by_age(folder)):
        checkpoint = _read(path)
        if checkpoint is None:
            sys.stderr.write(f"The checkpoint {path.name} is damaged; using the one before.\n")
        elif checkpoint.metadata.get("identity") == identity:
            return checkpoint
    return None


def _read(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if it is torn or its tensors do not match their hash."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if metadata.get("sha256") != _digest(tensors):
        return None
    return Checkpoint(int(metadata["step"]), tensors, metadata)
