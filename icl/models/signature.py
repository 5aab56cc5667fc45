"""A cheap sign that a model is still the one it was, read without loading it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from icl.models.offline import GEMMA, MINILM, gemma_version, packaged_minilm


def model_signature(name: str, revision: str | None, dtype: str) -> str | None:
    """Return a hash that changes whenever loading the model would give other weights, or None.

    It lets a finished run be repeated without loading a model: a run folder remembers which
    `Backbone.identity` a signature led to. A packaged model is known by its checksum, a directory
    by its files' names, sizes and times of change, a Hub model by the commit in the local cache.
    None says that nothing can be told before loading.
    """
    state = _state(name, revision)
    if state is None:
        return None
    text = json.dumps([name, revision, dtype, state], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _state(name: str, revision: str | None) -> object:
    if name == f"packaged:{GEMMA}":
        return gemma_version()
    packaged = name == f"packaged:{MINILM}"
    folder = packaged_minilm() if packaged else Path(name).expanduser()
    if folder.is_dir():
        return [
            [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns]
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
    return _cached_commit(name, revision)


def _cached_commit(name: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return None
    # The path is .../snapshots/<commit>/config.json; anything else says that it is not cached.
    return Path(found).parent.name if isinstance(found, str) else None
