"""What a server says of the model that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.models.server.client import Client

# What stays the same as long as the model does; `created` is often the server's own start.
_FACTS = ("root", "parent", "quantization", "max_model_len")
_META = ("vocab_type", "n_vocab", "n_ctx_train", "n_embd", "n_params", "size", "ftype")
_SHOWN = 8
_LONGEST = 2**31  # what exceeds it stands for no limit


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server and its model.

    Attributes:
        kind: the program: ``llamacpp``, ``vllm``, another owner's name, or empty.
        context: the context length in tokens, where the server tells it.
        facts: what the server says of the model itself, fit to tell it from another.
    """

    kind: str = ""
    context: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def server_info(client: Client, name: str) -> ServerInfo:
    """Ask a server about a model.

    Raises:
        IclError: the server cannot be reached, or lists models and this one is not among them: a
            server that answers to any name would give one model's scores for another's.
    """
    listed = client.get("/models")
    rows = listed.get("data") if isinstance(listed, dict) else None
    rows = rows if isinstance(rows, list) else []
    rows = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if not rows:
        return ServerInfo()
    names = {alias: row for row in rows for alias in _names(row)}
    if name not in names:
        known = sorted(row["id"] for row in rows)
        few = known if len(known) <= _SHOWN else [*known[:_SHOWN], "…"]
        hint = did_you_mean(name, known) if len(known) > _SHOWN else ""
        raise IclError(
            f"The server {client.config.url} does not serve {name!r} but {', '.join(few)}; correct"
            f" `model.name`.{hint}"
        )
    row = names[name]
    meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
    facts = {key: row[key] for key in _FACTS if key in row}
    facts |= {key: meta[key] for key in _META if key in meta}
    lengths = (row.get("max_model_len"), meta.get("n_ctx"))
    context = next((n for n in lengths if type(n) is int and 0 < n < _LONGEST), None)
    return ServerInfo(str(row.get("owned_by") or ""), context, facts)


def _names(row: Mapping[str, Any]) -> set[str]:
    """Return what a model may be called: llama.cpp names it by its file's whole path."""
    aliases = row.get("aliases")
    others = [a for a in aliases if isinstance(a, str)] if isinstance(aliases, list) else []
    path = PurePath(row["id"])
    short = {path.name, path.stem} if path.suffix == ".gguf" else set()
    return {row["id"], *others, *short}
