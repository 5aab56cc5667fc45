"""A small run of all methods on a toy family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from icl.episodes import Episode, EpisodeSampler, Setting
from icl.learners.registry import validate
from icl.models.backbone import Backbone
from icl.processes import ALONE, Processes
from icl.runs.entrants import Entrant, Handle
from icl.runs.folder import RunFolder
from icl.runs.runner import Runner
from icl.tasks.loaded import Split, TaskFamily
from icl.training import TrainingConfig
from tests import tiny
from tests.episodes.toy_families import regular_family

TRAINING = TrainingConfig(steps=4, meta_batch=2, shots=1, queries=3, checkpoint_every=1)
LEARNERS: dict[str, tuple[str, dict[str, Any], TrainingConfig | None]] = {
    "majority": ("majority", {}, None),
    "zero-shot": ("zero-shot", {}, None),
    "in-context": ("in-context", {}, None),
    "prototypes": ("prototypes", {}, None),
    "linear-probe": ("linear-probe", {}, None),
    "lora": ("lora", {"steps": 3}, None),
    "fomaml": ("fomaml", {"inner_steps": 2}, TRAINING),
}


def family() -> TaskFamily:
    """A toy family whose training and test languages are apart."""
    whole = regular_family(languages=("en", "fr", "sw", "de"))
    tasks = whole.splits["test"].tasks
    splits = {
        "train": Split("train", tasks, ("sw", "de")),
        "test": Split("test", tasks, ("en", "fr")),
    }
    return TaskFamily("toy", whole.load, splits)


def sampler(split: str, shots: tuple[int, ...], seed: int = 0, ways: int = 3) -> EpisodeSampler:
    return EpisodeSampler(
        family(), split, ways=ways, shots=shots, queries=3, setting=Setting("within"), seed=seed
    )


def episodes(count: int = 3) -> list[Episode]:
    return list(sampler("test", (1, 2)).episodes(count))


def run(
    folder: Path,
    load: Callable[[], Backbone],
    learners: Mapping[str, tuple[str, dict[str, Any], TrainingConfig | None]] = LEARNERS,
    count: int = 3,
    foretold: str | None = None,
    processes: Processes = ALONE,
) -> RunFolder:
    """Run the learners on the first so many episode indices."""
    model = Handle(load, lambda: foretold or tiny.backbone().identity)
    entrants = [
        Entrant(
            name,
            method,
            validate(method, params),
            model,
            training,
            training and sampler("train", (training.shots,), ways=training.ways or 3),
        )
        for name, (method, params, training) in learners.items()
    ]
    made = RunFolder(folder, processes.index)
    with made.locked() if processes.main else nullcontext():
        Runner(made, entrants, episodes(count), "", processes).run()
    return made
