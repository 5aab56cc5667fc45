"""Metrics: plain functions, one idea a file, and the same as modules of the `evaluate` library.

The functions (`icl.metrics.labels`, `probabilities`, `calibration`, `open_set`, `curves`, `groups`,
`texts`, `ngrams`) need numpy only. The modules lie in ``icl/metrics/modules``; they load from the
installed package, with no network, by `load` or by ``evaluate.load(icl.metrics.path(name))``, and
combine with ``evaluate.combine``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean

__all__ = ["load", "names", "path"]

_MODULES = Path(__file__).parent / "modules"


def names() -> tuple[str, ...]:
    """Return the names of all metrics, sorted."""
    return tuple(sorted(file.stem for file in _MODULES.glob("[a-z]*.py")))


def path(name: str) -> str:
    """Return the file that ``evaluate.load`` takes for a metric; raises `IclError` if unknown."""
    if name not in names():
        raise IclError(f"There is no metric {name!r}." + did_you_mean(name, names()))
    return str(_MODULES / f"{name}.py")


def load(*wanted: str, **options: Any) -> Any:
    """Return a metric as an ``evaluate`` module, or several as one combined evaluation.

    Args:
        wanted: names of metrics, see `names`.
        options: of ``evaluate.load``, e.g. ``keep_in_memory=True``.

    Raises:
        IclError: no name, or one that is not known.
    """
    if not wanted:
        raise IclError(f"Name a metric to load: {', '.join(names())}.")
    import evaluate

    files = [path(name) for name in wanted]
    loaded = [evaluate.load(file, **options) for file in files]
    return loaded[0] if len(loaded) == 1 else evaluate.combine(loaded)
