"""`scripts/when_it_pays.py` makes its points of records as the library's statistics do."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from icl.evaluation.grid import grid
from icl.evaluation.power import components, draws_for_width
from icl.runs.record import ACCURACY, Cost, EpisodeRecord

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import curve_runs
import gain_curves
import gain_figures
import paged
from gain_curves import BY_LOT, PLAIN, Interval, Point, Trial

QUERIES, DRAWS = 6, 20
TRIALS = [
    Trial("m untrained", "m", 0),
    Trial("m 2a", "m", 2, 0),
    Trial("m 2b", "m", 2, 1),
    Trial("m 4", "m", 4),
]
RIGHT = {"m untrained": 0.4, "m 2a": 0.5, "m 2b": 0.7, "m 4": 0.9, "low": 0.2, "high": 0.5}


def record(
    learner: str, index: int, shots: int, setting: str, right: float, split: str = "test"
) -> EpisodeRecord:
    rng = random.Random(f"{learner}{index}{shots}{setting}{split}")
    share = right if setting == PLAIN else 0.5
    predictions = tuple(0 if rng.random() < share else 1 for _ in range(QUERIES))
    return EpisodeRecord(
        learner=learner, method="m", learner_key=learner, task="t", setting=setting,
        fingerprint=f"{split}-{index}-{shots}-{setting}", split=split, index=index, ways=2,
        shots=shots, support_language="en", query_language="en", labels=("a", "b"),
        query_ids=tuple(f"{split}{index}-{i}" for i in range(QUERIES)),
        parallel_ids=tuple(f"{split}{index}-{i}" for i in range(QUERIES)),
        log_probs=tuple((-0.5, -1.0) if p == 0 else (-1.0, -0.5) for p in predictions),
        predictions=predictions, gold=(0,) * QUERIES, cost=Cost(1, 1, 0.0, 0.0, 0),
    )  # fmt: skip


def records(split: str = "test") -> Iterator[EpisodeRecord]:
    for learner, right in RIGHT.items():
        for index in range(DRAWS):
            for shots in (1, 5):
                for setting in (PLAIN, BY_LOT):
                    yield record(learner, index, shots, setting, right, split)


def accuracy(learner: str, shots: int, setting: str = PLAIN) -> float:
    own = [r for r in records() if (r.learner, r.shots, r.setting) == (learner, shots, setting)]
    return sum(r.accuracy for r in own) / len(own)


def test_a_point_is_the_mean_over_its_trainings_against_the_best_floor() -> None:
    found = gain_curves.curve(records(), TRIALS, ["low", "high"])
    assert [(p.x, p.shots) for p in found] == [(x, s) for s in (1, 5) for x in (0, 2, 4)]
    for p in found:
        names = [t.name for t in TRIALS if t.x == p.x]
        assert p.trainings == pytest.approx([accuracy(n, p.shots) for n in names])
        assert p.accuracy.value == pytest.approx(sum(p.trainings) / len(names))
        assert p.floor == "high"
        assert p.over_floor.value == pytest.approx(p.accuracy.value - accuracy("high", p.shots))
        lots = [accuracy(n, p.shots, BY_LOT) for n in names]
        assert p.control is not None
        assert p.control.value == pytest.approx(sum(lots) / len(lots))
        assert (p.chance, p.draws) == (0.5, DRAWS)
        if p.x == 0:
            assert p.over_itself is None
        else:
            own = accuracy("m untrained", p.shots)
            assert p.over_itself is not None
            assert p.over_itself.value == pytest.approx(p.accuracy.value - own)


def test_one_training_has_the_intervals_of_the_library() -> None:
    found = gain_curves.curve(records(), TRIALS, ["low", "high"])
    whole = grid(records()).where(setting=PLAIN, shots=5)
    sample = whole.scores(ACCURACY)
    m, high = whole.learners.index("m 4"), whole.learners.index("high")
    paired, means = sample.differences().of(m, high), sample.means()
    p = next(p for p in found if (p.x, p.shots) == (4, 5))
    assert (p.over_floor.low, p.over_floor.high) == pytest.approx((paired.low, paired.high))
    assert (p.accuracy.low, p.accuracy.high) == pytest.approx((means.low[m], means.high[m]))


def test_several_trainings_that_are_one_have_its_interval() -> None:
    twin = [Trial("m 4", "m", 4, 0), Trial("m 4", "m", 4, 1)]
    one = gain_curves.curve(records(), twin[:1], ["high"])
    two = gain_curves.curve(records(), twin, ["high"])
    assert [p.over_floor.low for p in two] == pytest.approx([p.over_floor.low for p in one])


def test_records_of_other_splits_and_learners_change_nothing() -> None:
    both = [*records(), *records("train"), record("other", 0, 1, PLAIN, 0.1)]
    assert gain_curves.curve(both, TRIALS, ["high"], split="test") == gain_curves.curve(
        records(), TRIALS, ["high"]
    )


def point(x: float, low: float, control: float = 0.5) -> Point:
    d = Interval(low + 0.1, low, low + 0.2)
    lot = Interval(control, control - 0.01, control + 0.01)
    return Point("m", x, 1, Interval(0.7, 0.6, 0.8), lot, 0.5, "high", d, None, (0.7,), 9)


@pytest.mark.parametrize(
    ("lows", "since"),
    [
        ({0: 0.3, 1: -0.1, 2: 0.05, 4: 0.1}, 2),  # the untrained one does not count
        ({0: -0.1, 1: 0.1, 2: -0.05, 4: 0.1}, 4),  # a place that is not clear breaks it
        ({0: -0.1, 1: 0.1, 2: 0.1, 4: 0.0}, None),
    ],
)
def test_it_pays_from_where_all_later_intervals_lie_above_zero(
    lows: dict[float, float], since: float | None
) -> None:
    found = [point(x, low) for x, low in lows.items()]
    assert gain_curves.pays_from(found, "m", 1) == since
    said = gain_figures.verdicts(found, "steps")[0]
    assert ("never clearly pays" in said) == (since is None)
    assert since is None or f"from {since} on (steps)" in said


def test_a_control_that_leaves_chance_is_counted() -> None:
    found = [point(1, 0.1), point(2, 0.1, control=0.6)]
    line = gain_figures.verdicts(found, "steps")[-2]
    assert "60.0 ±1.0" in line
    assert "1 of their intervals" in line


def test_what_is_lost_since_the_peak_is_paired() -> None:
    trials = [Trial("m 4", "m", 1), Trial("m untrained", "m", 2), Trial("low", "m", 3)]
    peak, later = gain_curves.since_the_peak(records(), trials, split="test", shots=1)["m"]
    assert (peak, list(later)) == (1, [2, 3])
    assert later[3].value == pytest.approx(accuracy("low", 1) - accuracy("m 4", 1))
    assert later[3].high < 0


def test_a_pilot_is_planned_from_at_each_number_of_shots_alone() -> None:
    needed = gain_curves.draws_needed(records(), ["m 2a", "m 4"], "high", 0.1)
    assert set(needed) == {(name, shots) for name in ("m 2a", "m 4") for shots in (1, 5)}
    for (name, shots), draws in needed.items():
        part = grid(r for r in records() if r.learner in {name, "high"})
        sample = part.where(setting=PLAIN, shots=shots).scores(ACCURACY)
        assert draws == draws_for_width(components(sample, 0, 1), 0.1)


def test_orders_add_one_thing_after_another() -> None:
    things = [f"l{n}" for n in range(12)]
    sets = curve_runs.subsets(things, (1, 2, 4, 8, 12), 3)
    assert [n for size, n in sets if size == 12] == [0]  # the whole is the whole in any order
    for order in range(3):
        chain = [set(sets[size, order]) for size in (1, 2, 4, 8)]
        assert [len(s) for s in chain] == [1, 2, 4, 8]
        assert all(a < b for a, b in pairwise(chain))
    assert len({tuple(sets[8, order]) for order in range(3)}) == 3


def test_a_learner_without_steps_is_moved_by_nothing_that_float32_shows() -> None:
    training = curve_runs.trained("multitask", 0.01, 0)["training"]
    assert training["steps"] == 1
    assert training["learning_rate"] < 2**-24 * 0.01  # a weight of a hundredth stays what it was
    assert curve_runs.trained("multitask", 0.01, 30)["training"]["learning_rate"] == 0.01


def test_a_part_of_the_page_is_replaced_and_the_rest_stays() -> None:
    page = paged.with_block("# A\n\ntext\n", "x", ["first \\1"])
    again = paged.with_block(page + "\nmore\n", "x", ["second"])
    assert "first \\1" in page
    assert again.startswith("# A\n\ntext\n")
    assert again.endswith("more\n")
    assert "first" not in again
    assert again.count("second") == 1


def test_figures_are_files_with_a_light_and_a_dark_dress() -> None:
    from xml.etree import ElementTree

    found = gain_curves.curve(records(), TRIALS, ["high"])
    drawn = (
        gain_figures.gain_figure(found, "languages", ticks=[0, 2, 4]),
        gain_figures.memory_figure({"seen": found[:3], "new": found[:3]}, "steps", ticks=[0, 2, 4]),
        gain_figures.rivals_figure({"a": found[1:3], "b": found[1:3]}, "high"),
    )
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("aria-label")
        used = set(re.findall(r"var\(--([\w-]+)\)", svg))
        light, dark = re.findall(r"svg\{([^}]*)\}", svg)
        for dress in (light, dark):
            assert used <= set(re.findall(r"--([\w-]+):", dress))
        assert not re.search(r"\bnan\b", svg)
