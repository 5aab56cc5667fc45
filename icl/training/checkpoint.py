"""Checkpoints: one safetensors file each, written atomically, checked by hash when read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from icl.errors import IclError
from icl.tools.disk import sync_folder
from icl.tools.progress import note

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

    def to_bytes(self) -> bytes:
        """Return the content of a checkpoint's file, its hash within."""
        metadata = {**self.metadata, "step": str(self.step)}
        digest = _digest(self.tensors, metadata)
        content: bytes = save(dict(self.tensors), {**metadata, "sha256": digest})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read what `to_bytes` wrote; raises `ValueError` where the hash says otherwise."""
        try:
            length = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
            tensors = load(content)
        except (SafetensorError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a checkpoint: {error}") from error
        if metadata.pop("sha256", None) != _digest(tensors, metadata):
            raise ValueError("the content does not match its hash")
        return cls(int(metadata["step"]), tensors, metadata)


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(checkpoint.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        sync_folder(folder)  # the new name is on the disk before older checkpoints go
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise IclError(
            f"The checkpoint {target} cannot be written: {error.strerror}; free some space or "
            "choose another run folder."
        ) from error
    for stale in [*_stale(folder, target), *folder.glob("checkpoint-*.tmp")]:
        with suppress(OSError):
            stale.unlink(missing_ok=True)


def _stale(folder: Path, written: Path) -> list[Path]:
    """Return the checkpoints that are not kept: old ones, and damaged ones of later steps.

    A later step than the one just written was passed over when the run began.
    """
    found = _by_age(folder)
    before = [path for path in found if path.name <= written.name]
    return [*before[:-_KEEP], *found[len(before) :]]


def _by_age(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name))


def load_checkpoint(folder: Path, identity: str, *, aloud: bool = True) -> Checkpoint | None:
    """Return the newest whole checkpoint of this run, or None.

    A damaged file is named in one line on standard error, if `aloud`, and the one before it is
    used. A checkpoint of another run (another `identity`) is passed over.
    """
    damaged = []
    found = None
    for path in reversed(_by_age(folder)):
        checkpoint = _read(path)
        if checkpoint is None:
            damaged.append(path.name)
        elif checkpoint.metadata.get("identity") == identity:
            found = checkpoint
            break
    instead = "starting anew" if found is None else "using the one before"
    for name in damaged if aloud else ():
        note(f"the checkpoint {name} is damaged; {instead}.")
    return found


def _read(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if it is torn or its tensors do not match their hash."""
    try:
        return Checkpoint.from_bytes(path.read_bytes())
    except (OSError, ValueError):
        return None
