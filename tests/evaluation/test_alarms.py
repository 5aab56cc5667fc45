"""Both sides of every threshold of a board's warnings, and how often they are wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from icl.evaluation.alarms import Alarms, OneAnswer, alarms, one_answer
from icl.evaluation.grid import grid
from icl.evaluation.pairs import pairs
from icl.evaluation.summary import summarise
from icl.reporting.alarm_lines import alarm_lines
from icl.reporting.comparison import Comparison
from icl.reporting.verdict import notes
from icl.runs.record import EpisodeRecord
from tests.evaluation.synthetic import record, run_records, written


def answered(
    given: Sequence[int], right: Sequence[int], index: int = 0, labels: str = "ab"
) -> EpisodeRecord:
    """A record of some answers, as columns of `labels`."""
    ids = tuple(f"{index}.{n}" for n in range(len(given)))
    sure = tuple(tuple(0.0 if c == g else -9.0 for c in range(len(labels))) for g in given)
    return replace(
        record(index),
        ways=len(labels),
        labels=tuple(labels),
        query_ids=ids,
        parallel_ids=ids,
        log_probs=sure,
        predictions=tuple(given),
        gold=tuple(right),
    )


HALVES = [0] * 5 + [1] * 5


def test_nine_tenths_are_told_and_a_query_less_is_not() -> None:
    nine, eight = [1] * 9 + [0], [1] * 8 + [0] * 2
    found = one_answer([answered(nine, HALVES), answered(nine, HALVES, 1)])
    assert found == OneAnswer("prototypes", 0.9, 0.5, 20)
    assert one_answer([answered(nine, HALVES), answered(eight, HALVES, 1)]) is None


def test_it_may_be_another_label_in_each_episode() -> None:
    found = one_answer([answered([0] * 10, HALVES), answered([1] * 10, HALVES, 1)])
    assert found is not None
    assert found.share == 1.0


def test_episodes_in_which_more_than_half_have_one_right_label_say_nothing() -> None:
    ones = [1] * 10
    six = [0] * 4 + [1] * 6
    assert one_answer([answered(ones, six, i) for i in range(9)]) is None
    mixed = [answered(ones, six if i < 9 else HALVES, i) for i in range(11)]
    assert one_answer(mixed) == OneAnswer("prototypes", 1.0, 0.5, 20)


def test_fewer_than_twenty_queries_say_nothing() -> None:
    assert one_answer([answered([1] * 19, [0] * 10 + [1] * 9)]) is None
    assert one_answer([answered([1] * 20, [0] * 10 + [1] * 10)]) is not None
    assert one_answer([answered([1] * 10, HALVES)]) is None


def test_small_episodes_of_the_same_labels_count_as_one() -> None:
    """Whatever column a label has: a single query's most frequent answer is always all of it."""
    one = [answered([0], [i % 2], i, "ab") for i in range(10)]
    one += [answered([1], [i % 2], i, "ba") for i in range(10, 20)]  # "a" each time
    assert one_answer(one) == OneAnswer("prototypes", 1.0, 0.5, 20)
    right = [answered([i % 2], [i % 2], i) for i in range(20)]
    assert one_answer(right) is None
    other = [replace(r, task=f"task {i}") for i, r in enumerate(one)]
    assert one_answer(other) is None


def test_written_answers_are_not_counted() -> None:
    assert one_answer([written(["x"] * 30, ["y"] * 30, {"exact_match": [0.0] * 30})]) is None


def test_who_guesses_by_lot_is_told_as_seldom_as_the_page_says() -> None:
    """Exactly, over all outcomes of two episodes of ten queries with two labels."""
    chance = {n: math.comb(10, n) / 2**10 for n in range(11)}
    told = sum(
        chance[a] * chance[b]
        for a, b in product(range(11), repeat=2)
        if max(a, 10 - a) + max(b, 10 - b) >= 18
    )
    assert 1 / told == pytest.approx(1200, rel=0.2)
    lots = random.Random(0)
    drawn = [
        [answered([lots.randrange(2) for _ in range(10)], HALVES, i) for i in range(2)]
        for _ in range(6000)
    ]
    found = sum(one_answer(records) is not None for records in drawn)
    assert found <= 6000 * told + 4 * math.sqrt(6000 * told)


@pytest.mark.parametrize("ways", [2, 3, 5])
@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.6, 1.0])
def test_no_learner_whose_errors_are_spread_is_told(ways: int, accuracy: float) -> None:
    lots = random.Random(ways)
    for _ in range(300):
        records = []
        for i in range(4):
            gold = [n % ways for n in range(10)]
            given = [g if lots.random() < accuracy else lots.randrange(ways) for g in gold]
            records.append(answered(given, gold, i, "abcde"[:ways]))
        assert one_answer(records) is None


def test_who_gives_one_label_in_nineteen_of_twenty_answers_is_told() -> None:
    lots = random.Random(1)
    runs = []
    for _ in range(300):
        given = [[0 if lots.random() < 0.95 else 1 for _ in range(10)] for _ in range(10)]
        runs.append(one_answer([answered(row, HALVES, i) for i, row in enumerate(given)]))
    assert sum(found is not None for found in runs) > 0.97 * len(runs)


LEVELS = {
    "tfidf": (0.55, 0.0, 1.0),
    "majority": (0.25, 0.0, 1.0),
    "fomaml": (0.56, 0.0, 1.0),  # its name stands before the floor's, the next one's behind
    "zero-shot": (0.30, 0.0, 1.0),
    "prototypes": (0.90, 0.0, 1.0),
}


def made(**levels: tuple[float, float, float]) -> Alarms:
    return summarise(run_records(learners={**LEVELS, **levels})).alarms


def test_who_does_not_beat_a_floor_is_told_with_the_paired_difference() -> None:
    summary = summarise(run_records(learners=LEVELS))
    told = {(one.learner, one.floor): one for one in summary.alarms.unbeaten}
    assert set(told) == {("fomaml", "tfidf"), ("zero-shot", "tfidf")}
    by_name = {(pair.first, pair.second): pair for pair in summary.pairs}
    before, behind = by_name["fomaml", "tfidf"], by_name["tfidf", "zero-shot"]
    fomaml, zero = told["fomaml", "tfidf"], told["zero-shot", "tfidf"]
    assert (fomaml.difference, zero.difference) == (before.difference, -behind.difference)
    assert (fomaml.low, fomaml.high) == (before.low, before.high)
    assert (zero.low, zero.high) == (-behind.high, -behind.low)
    assert fomaml.low <= 0 < fomaml.high
    assert zero.high < 0
    assert {one.score for one in told.values()} == {summary.overall.row("tfidf").accuracy}


def test_an_interval_that_touches_zero_is_told_and_one_above_it_is_not() -> None:
    part = grid(run_records(learners={n: LEVELS[n] for n in ("fomaml", "tfidf")})).plain
    [pair] = pairs(part.learners, part.scores("accuracy"))
    assert pair.first == "fomaml"
    touching = alarms(part, "accuracy", [replace(pair, low=0.0, high=0.2)])
    assert [one.learner for one in touching.unbeaten] == ["fomaml"]
    assert alarms(part, "accuracy", [replace(pair, low=1e-9, high=0.2)]).unbeaten == ()
    turned = replace(pair, first="tfidf", second="fomaml", low=-0.2)
    assert len(alarms(part, "accuracy", [replace(turned, high=0.0)]).unbeaten) == 1
    assert alarms(part, "accuracy", [replace(turned, high=-1e-9)]).unbeaten == ()


def test_floors_are_not_told_and_without_one_nothing_is() -> None:
    floors = {n: LEVELS[n] for n in ("tfidf", "majority")}
    assert summarise(run_records(learners=floors)).alarms == Alarms()
    rest = {n: LEVELS[n] for n in ("fomaml", "zero-shot", "prototypes")}
    assert summarise(run_records(learners=rest)).alarms == Alarms()


def test_equal_learners_are_nearly_always_told_and_far_better_ones_never() -> None:
    told = {"fomaml": 0, "prototypes": 0}
    for seed in range(40):
        levels = dict.fromkeys(("tfidf", "fomaml"), (0.5, 0.0, 1.0))
        levels["prototypes"] = (0.75, 0.0, 1.0)
        found = run_records(learners=levels, shots=(1,), settings=("within",), seed=seed)
        for one in summarise(found).alarms.unbeaten:
            told[one.learner] += 1
    assert told["fomaml"] >= 35
    assert told["prototypes"] == 0


def test_each_warning_is_a_line_of_the_report() -> None:
    lines = list(alarm_lines(made()))
    [line] = lines
    assert line.startswith("Not clearly above tfidf (5")
    assert "zero-shot (−" in line
    assert "which uses no language model" in line
    assert line in notes(summarise(run_records(learners=LEVELS)))
    comparison = Comparison(tuple(run_records(learners=LEVELS)))
    assert comparison.warnings == (line,)
    assert line[:40] in str(comparison)
    many = {f"l{i}": (0.2, 0.0, 1.0) for i in range(9)}
    assert sum(", 6 more;" in line for line in alarm_lines(made(**many))) == 1
    stuck = [answered([1] * 10, HALVES, i) for i in range(2)]
    [line] = alarm_lines(summarise(stuck).alarms)
    assert line == (
        "prototypes gives one label to 100.0\xa0% of an episode's queries, though it is right for"
        " 50.0\xa0%: it may answer so whatever a text says."
    )
