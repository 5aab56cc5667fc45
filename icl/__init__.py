"""icl: in-context meta-learning with language models: every method on the same episodes.

What a script needs, loaded when it is first used, so that ``import icl`` is quick::

    import icl

    family = icl.load_task("cldr")
    episodes = icl.episodes.draw(family, ways=4, shots=[0, 4], queries=8, count=6)
    result = icl.compare(["zero-shot", "in-context", "prototypes"], episodes)
    print(result)  # the leader board
    frame = result.frame()  # the same as a DataFrame
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from icl.version import __version__

if TYPE_CHECKING:
    from icl import episodes, learners, tasks
    from icl.api import compare, load_model, load_task, open_run, run
    from icl.errors import IclError
    from icl.exchange.trained import load_learner
    from icl.labelling import label_table
    from icl.reporting.comparison import Comparison

__all__ = [
    "Comparison",
    "IclError",
    "__version__",
    "compare",
    "episodes",
    "label_table",
    "learners",
    "load_learner",
    "load_model",
    "load_task",
    "open_run",
    "run",
    "tasks",
]

_ROOMS = ("episodes", "learners", "tasks")
_FROM = {
    "Comparison": "icl.reporting.comparison",
    "IclError": "icl.errors",
    "compare": "icl.api",
    "label_table": "icl.labelling",
    "load_learner": "icl.exchange.trained",
    "load_model": "icl.api",
    "load_task": "icl.api",
    "open_run": "icl.api",
    "run": "icl.api",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"icl.{name}")
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module 'icl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
