"""What `when_it_pays.py` runs: learners and episodes of each curve, a folder each."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gain_curves import UNTRAINED, Trial, draws_needed

from icl.episodes.files import write_set
from icl.episodes.schema import EpisodesConfig
from icl.episodes.variants import VARIANTS
from icl.experiments.config import ExperimentConfig, LearnerConfig, load_config
from icl.experiments.experiment import carry_out, prepare
from icl.runs.finished import FinishedRun
from icl.tasks import load_family
from icl.tasks.definitions.extends import find_definition

MODEL = "packaged:multilingual-e5-small"
FLOORS: Mapping[str, Mapping[str, Any]] = {
    "prototypes": {"method": "prototypes"},
    "logistic": {"method": "logistic"},
}
LEARNERS = ("multitask", "meta-prototypes")
RIVALS = ("meta-prototypes", "meta-matching", "relation")
ALL = ("multitask", *RIVALS)
RATES = (0.0003, 0.001, 0.003)
STEPS, HALF_WIDTH = 300, 0.019  # of the ±2 points that are promised, some for the pilot's error
# the same for every learner
TRAINING = {"meta_batch": 8, "ways": 5, "shots": 5, "queries": 25, "checkpoint_every": 100}
WIDER = {"ways": 20, "queries": 40}  # of CLINC150, whose intents are told apart easily
NARROW = ("science/technology", "travel", "politics", "sports")
NARROW_SPLITS = {
    "narrow": "training texts",
    "narrow-new-texts": "new texts of its classes",
    "narrow-new-classes": "new classes, English",
    "narrow-new-languages": "its classes in new languages",
}
NO_RATE = 1e-12  # one step of it leaves the learner as it was


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run: of the whole, or with `--quick`."""

    draws: int
    most_draws: int
    pilot: int
    steps: tuple[int, ...]
    languages: tuple[int, ...]
    classes: tuple[int, ...]
    orders: int
    rates: tuple[float, ...]
    validation: int
    trained: int


FULL = Size(
    100, 400, 60, (0, 10, 30, 100, 300, 1000), (1, 2, 4, 8, 12), (5, 20, 75), 2, RATES, 40,
    STEPS,
)  # fmt: skip
QUICK = Size(4, 6, 4, (0, 3, 10), (1, 12), (5, 75), 1, (0.001,), 3, 3)


@dataclass(frozen=True, slots=True)
class Work:
    """Where things are and how much is done."""

    data: Path
    out: Path
    size: Size

    def run(
        self,
        name: str,
        family: str,
        episodes: Mapping[str, Any],
        learners: Mapping[str, Mapping[str, Any]],
    ) -> FinishedRun:
        """Do what is left of one run, in a folder of its name, and return all of it."""
        data = {
            "schema_version": 1,
            "name": name,
            "seed": 0,
            "model": {"name": MODEL},
            "tasks": {"family": family, "data": str(self.data / base_of(family))},
            "episodes": dict(episodes),
            "learners": {key: dict(value) for key, value in learners.items()},
        }
        definition = self.out / "configs" / f"{name}.yaml"
        definition.parent.mkdir(parents=True, exist_ok=True)
        definition.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "utf-8")
        return finish(load_config(definition), self.out / name)

    def define(self, name: str, splits: Mapping[str, Any], base: str, apart: Any = ()) -> str:
        """Write a family that extends another by further splits; return its path."""
        path = self.out / "families" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"extends": base, "name": name, "splits": dict(splits), "schema_version": 1}
        if apart:
            data["disjoint"] = [*shipped(base)["disjoint"], *map(list, apart)]
        path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "utf-8")
        return str(path)


def finish(config: ExperimentConfig, folder: Path) -> FinishedRun:
    """Do what is left of an experiment; its report can be made by `icl report`."""
    print(f"{folder.name}: {len(config.learners)} learners", flush=True)
    found = carry_out(prepare(config), folder, lambda run: run)
    assert found is not None
    return found


def shipped(family: str) -> dict[str, Any]:
    """Return a shipped definition as plain values."""
    loaded: dict[str, Any] = yaml.safe_load(find_definition(family).read_text("utf-8"))
    return loaded


def base_of(family: str) -> str:
    """Return the folder of a family's data: that of the family that it extends.

    >>> base_of("sib200"), base_of("runs/families/clinc150-classes.yaml")
    ('sib200', 'clinc150')
    """
    return Path(family).stem.partition("-")[0]


def trained(method: str, rate: float, steps: int = STEPS, **where: Any) -> dict[str, Any]:
    """Return a meta-trained learner's configuration; no steps: it is left as it was."""
    own = (
        {"steps": steps, "learning_rate": rate} if steps else {"steps": 1, "learning_rate": NO_RATE}
    )
    return {"method": method, "training": {**TRAINING, **own, **where}}


def orders(things: Sequence[str], count: int) -> list[list[str]]:
    """Return so many orders of adding things, drawn by seed; their beginnings are nested sets."""
    found = []
    for seed in range(count):
        order = sorted(things)
        random.Random(seed).shuffle(order)
        found.append(order)
    return found


def subsets(things: Sequence[str], sizes: Sequence[int], count: int) -> dict[tuple[int, int], Any]:
    """Return (size, order) -> that many things, in their own order; the whole once."""
    return {
        (size, n): [thing for thing in things if thing in order[:size]]
        for size in sizes
        for n, order in enumerate(orders(things, count))
        if size < len(things) or n == 0
    }


def rates(
    work: Work, family: str, learners: Sequence[str]
) -> tuple[FinishedRun, dict[str, float], dict[str, float]]:
    """Choose each learner's rate on validation episodes; return them and all accuracies."""
    ways, queries = (5, 15) if family == "sib200" else (15, 45)
    names = {f"{m} {rate:g}": (m, rate) for m in learners for rate in work.size.rates}
    run = work.run(
        f"rates-{family}",
        family,
        {"split": "validation", "ways": ways, "shots": [1, 5], "queries": queries,
         "count": work.size.validation},
        {name: trained(m, rate, work.size.trained) for name, (m, rate) in names.items()},
    )  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in names}
    for record in run.records:
        found[record.learner].append(record.accuracy)
    mean = {name: sum(values) / len(values) for name, values in found.items()}
    best = {
        m: max((rate for rate in work.size.rates), key=lambda rate: mean[f"{m} {rate:g}"])
        for m in learners
    }
    return run, best, mean


def drawn(work: Work, count: int | None = None, **more: Any) -> dict[str, Any]:
    """Return the test episodes of a curve, the control beside them."""
    return {
        "split": "test", "ways": 5, "shots": [1, 5], "queries": 25,
        "count": count or work.size.draws, "variants": ["plain", "shuffled-labels"], **more,
    }  # fmt: skip


def sib200(work: Work, best: Mapping[str, float]) -> tuple[FinishedRun, Any, Any]:
    """Run languages and steps, on identical episodes; return the run and the trials of both."""
    size, every = work.size, shipped("sib200")["splits"]["train"]["languages"]
    learners: dict[str, Any] = dict(FLOORS)
    languages, steps = [], []
    for method in LEARNERS:
        name = f"{method} untrained"
        learners[name] = trained(method, best[method], 0)
        untrained = Trial(name, method, UNTRAINED)
        for (count, order), some in subsets(every, size.languages, size.orders).items():
            name = f"{method} on {count} languages, order {order}"
            learners[name] = trained(method, best[method], size.trained, languages=some)
            languages.append(Trial(name, method, count, order))
        whole = languages[-1].name  # all of them, after as many steps as everywhere
        for count in size.steps[1:]:
            name = whole if count == size.trained else f"{method} after {count} steps"
            learners.setdefault(name, trained(method, best[method], count, languages=every))
            steps.append(Trial(name, method, count))
        languages.append(untrained)
        steps.append(untrained)
    return work.run("sib200", "sib200", drawn(work), learners), languages, steps


def classes(work: Work, best: Mapping[str, float]) -> tuple[FinishedRun, list[Trial]]:
    """Run training classes of CLINC150; test classes are of domains that none of them is of."""
    size, every = work.size, shipped("clinc150")["splits"]["train"]["labels"]
    sets = subsets(every, size.classes, size.orders)
    splits = {
        f"train-{count}-{order}": {"languages": ["eng"], "labels": some}
        for (count, order), some in sets.items()
    }
    apart = [(name, "test", "class") for name in splits]
    family = work.define("clinc150-classes", splits, "clinc150", apart)
    learners: dict[str, Any] = dict(FLOORS)
    trials = []
    for method in LEARNERS:
        name = f"{method} untrained"
        learners[name] = trained(method, best[method], 0)
        trials.append(Trial(name, method, UNTRAINED))
        for count, order in sets:
            name = f"{method} on {count} classes, order {order}"
            split = f"train-{count}-{order}"
            learners[name] = trained(method, best[method], size.trained, split=split)
            trials.append(Trial(name, method, count, order))
    return work.run("classes", family, drawn(work, **WIDER), learners), trials


def narrow(work: Work, best: Mapping[str, float]) -> tuple[FinishedRun, list[Trial]]:
    """Run steps on one language and four classes, judged on what was trained and what was not."""
    whole = shipped("sib200")
    others = [x for x in whole["tasks"]["topic"]["labels"] if x not in NARROW]
    eng, few = ["eng_Latn"], list(NARROW)
    test = whole["splits"]["test"]["languages"]
    splits = {
        "narrow": {"languages": eng, "labels": few, "data": ["train"]},
        "narrow-new-texts": {"languages": eng, "labels": few, "data": ["dev", "test"]},
        "narrow-new-classes": {"languages": eng, "labels": others, "data": ["dev", "test"]},
        "narrow-new-languages": {"languages": test, "labels": few, "data": ["test"]},
    }
    family = work.define("sib200-narrow", splits, "sib200")
    saved = work.out / "narrow-episodes"
    shutil.rmtree(saved, ignore_errors=True)  # drawn anew each time: the same for the same seed
    loaded = load_family(family, data=str(work.data / "sib200"))
    samplers = {
        split: EpisodesConfig(
            split=split, ways=3, shots=(1,), queries=15, count=work.size.draws
        ).samplers(loaded, 0)[0]
        for split in splits
    }
    change = VARIANTS["shuffled-labels"]
    write_set(
        saved,
        (
            episode if plain else change(episode)
            for sampler in samplers.values()
            for plain in (True, False)
            for episode in sampler.episodes(work.size.draws)
        ),
    )
    learners: dict[str, Any] = dict(FLOORS)
    trials = []
    for method in LEARNERS:
        for count in work.size.steps:
            name = f"{method} after {count} steps"
            learners[name] = trained(
                method, best[method], count, split="narrow", ways=3, queries=15
            )
            trials.append(Trial(name, method, count))
    return work.run("narrow", family, {"file": str(saved), "ways": 3}, learners), trials


def rivals(work: Work, family: str, best: Mapping[str, float]) -> Any:
    """Compare meta-learners with multi-task training, on as many draws as +-2 points need."""
    more = {} if family == "sib200" else WIDER
    learners: dict[str, Any] = {
        name: trained(name, best[name], work.size.trained) for name in ("multitask", *RIVALS)
    }
    name = f"rivals-{family}"
    pilot = work.run(name, family, drawn(work, work.size.pilot, **more), learners)
    needed = draws_needed(pilot.records, RIVALS, "multitask", HALF_WIDTH)
    most = max(n if n is not None else work.size.most_draws for n in needed.values())
    count = min(work.size.most_draws, max(work.size.pilot, most))
    run = work.run(name, family, drawn(work, count, **more), learners)
    trials = [Trial(rival, rival, work.size.trained) for rival in RIVALS]
    return run, trials, needed, count


def second_order(work: Work) -> FinishedRun:
    """Run configs/second_order.yaml, and first-order ProtoMAML, which is no method of icl's."""
    here = Path(__file__).parent
    config = load_config(here.parent / "configs" / "second_order.yaml")
    own = f"{here / 'first_order_protomaml.py'}:FirstOrderProtoMAML"
    added = config.learners["protomaml"].model_copy(update={"method": own})
    learners = {**config.learners, "first-order-protomaml": added}
    if work.size is QUICK:
        learners = {name: shortened(one, 1) for name, one in learners.items()}
        few = {"episodes": config.episodes.model_copy(update={"count": 2, "queries": 5})}
        config = config.model_copy(update=few)
    config = config.model_copy(update={"learners": learners})
    return finish(config.with_data(work.data / "sib200"), work.out / "second-order")


def shortened(learner: LearnerConfig, steps: int) -> LearnerConfig:
    """Return a learner with so many outer steps, if it is meta-trained."""
    if learner.training is None:
        return learner
    return learner.model_copy(
        update={"training": learner.training.model_copy(update={"steps": steps})}
    )
