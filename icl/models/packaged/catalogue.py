"""The one table of packaged models. A further one is a file beside this and a line here."""

from __future__ import annotations

import difflib

from icl.errors import IclError, did_you_mean
from icl.models.packaged.carried import Packaged
from icl.models.packaged.e5 import E5
from icl.models.packaged.gemma import GEMMA
from icl.models.packaged.minilm import MINILM
from icl.models.packaged.smollm2 import SMOLLM2

PREFIX = "packaged:"
_MODELS = {model.name: model for model in (GEMMA, MINILM, E5, SMOLLM2)}
PACKAGED = {PREFIX + name: model for name, model in _MODELS.items()}


def find_packaged(name: str) -> Packaged | None:
    """Return a packaged model by its whole name; None for a name without the prefix.

    Raises:
        IclError: no packaged model has this name.
    """
    if not name.startswith(PREFIX):
        return None
    asked = name.removeprefix(PREFIX)
    if asked not in _MODELS:
        raise IclError(f"No packaged model {asked!r}." + did_you_mean(asked, _MODELS))
    return _MODELS[asked]


def near_packaged(name: str) -> str:
    """Return `` Did you mean 'packaged:x'?`` where a name, with or without prefix, is near one."""
    near = difflib.get_close_matches(name.removeprefix(PREFIX), _MODELS, n=1)
    return f" Did you mean {PREFIX + near[0]!r}?" if near else ""
