from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from icl.errors import IclError
from icl.evaluation.board import MetaTraining
from icl.evaluation.grid import grid
from icl.evaluation.summary import summarise
from icl.reporting.verdict import notes
from icl.runs.record import Cost
from tests.evaluation.synthetic import LANGUAGES, LEARNERS, record, run_records, written


@pytest.fixture(scope="module")
def records():
    return list(run_records())


def test_every_learner_stands_on_every_board_with_the_same_episodes(records):
    summary = summarise(records)
    assert summary.learners == tuple(sorted(LEARNERS))
    assert [(b.setting, b.shots) for b in summary.boards] == [
        ("cross-lingual", 1),
        ("cross-lingual", 5),
        ("within", 1),
        ("within", 5),
    ]
    for board in (summary.overall, *summary.boards):
        assert {row.learner for row in board.rows} == set(LEARNERS)
        accuracies = [row.accuracy for row in board.rows]
        assert accuracies == sorted(accuracies, reverse=True)
    assert summary.overall.episodes == sum(b.episodes for b in summary.boards) == 88
    assert summary.overall.queries == 880
    assert summary.left_out == {}


def test_episodes_with_changed_labels_count_in_no_figure_over_all(records):
    turned = [
        replace(r, setting=f"{r.setting}+shuffled-labels", fingerprint=f"s{r.fingerprint}")
        for r in records
    ]
    summary, plain = summarise([*records, *turned]), summarise(records)
    rows = tuple(replace(row, control=None) for row in summary.overall.rows)
    assert (replace(summary.overall, rows=rows), summary.pairs) == (plain.overall, plain.pairs)
    assert (summary.worst, summary.calibration) == (plain.worst, plain.calibration)
    assert len(summary.boards) == 2 * len(plain.boards)
    assert any("88 further episodes have changed labels" in note for note in notes(summary))
    assert summarise(turned).overall.episodes == 88


def test_the_control_is_the_mean_over_episodes_with_shuffled_labels_alone(records):
    def of(setting, keep):
        return [
            replace(
                r, setting=f"{r.setting}+{setting}", fingerprint=f"{setting}{r.fingerprint}",
                predictions=keep(r),
            )
            for r in records
        ]  # fmt: skip

    shuffled = of("shuffled-labels", lambda r: (r.gold[0], *((g + 1) % r.ways for g in r.gold[1:])))
    flipped = of("flipped-labels", lambda r: r.gold)
    summary = summarise([*records, *flipped, *shuffled])
    for row in summary.overall.rows:  # one right of ten queries
        assert row.control == pytest.approx(0.1)
    assert summary.overall.controlled and not any(b.controlled for b in summary.boards)
    assert any("but the control" in note for note in notes(summary))
    without = summarise([*records, *flipped])
    assert not without.overall.controlled
    assert not any("control" in note for note in notes(without))


def test_figures_are_those_of_the_records(records):
    row = summarise(records).overall.row("lora")
    own = [r for r in records if r.learner == "lora"]
    assert row.accuracy == pytest.approx(sum(r.accuracy for r in own) / len(own))
    assert row.seconds == pytest.approx(sum(r.cost.seconds for r in own) / len(own))
    assert row.computed_tokens == pytest.approx(sum(r.cost.computed_tokens for r in own) / 88)
    assert row.peak_memory_mb == max(r.cost.peak_memory_mb for r in own)
    assert row.trained_parameters == 368_640
    assert row.low < row.accuracy < row.high


def test_the_best_differs_from_itself_by_nothing_and_others_are_below(records):
    board = summarise(records).overall
    assert (board.best.difference, board.best.difference_low, board.best.p) == (0, 0, 1)
    for row in board.rows[1:]:
        assert row.difference == pytest.approx(row.accuracy - board.best.accuracy)
        assert row.difference_low < row.difference < row.difference_high


def test_majority_is_not_above_chance_and_a_good_learner_is(records):
    board = summarise(records).overall
    assert board.chance == pytest.approx(0.25)
    assert not board.row("majority").above_chance
    assert board.row("prototypes").above_chance


def test_languages_average_to_the_whole(records):
    summary = summarise(records)
    assert {line.language for line in summary.languages} == set(LANGUAGES)
    weighted = sum(line.accuracy["lora"] * line.episodes for line in summary.languages)
    assert weighted / 88 == pytest.approx(summary.overall.row("lora").accuracy)


def test_the_order_of_writing_changes_nothing(records):
    shuffled = records.copy()
    random.Random(1).shuffle(shuffled)
    assert summarise(shuffled) == summarise(records)


def test_an_unfinished_run_is_compared_on_what_all_have_done(records):
    cut = [r for r in records if not (r.learner == "fomaml" and r.index >= 50)]
    summary = summarise(cut)
    assert summary.overall.episodes == 50
    assert summary.left_out == {name: 38 for name in LEARNERS if name != "fomaml"}
    alone = summarise([r for r in records if r.index < 50])
    assert summary.overall == alone.overall


def test_episodes_that_nobody_shares_are_told():
    with pytest.raises(IclError, match=r"No episode .*\(a: 1, b: 1\)"):
        grid([record(0, "b"), record(1, "a")])


def test_no_records_are_told():
    with pytest.raises(IclError, match="no records"):
        summarise([])


def test_two_versions_of_one_learner_are_not_mixed():
    with pytest.raises(IclError, match="two versions"):
        grid([record(0), replace(record(1), learner_key="other")])


def test_learners_that_saw_other_queries_are_not_compared():
    with pytest.raises(IclError, match="other queries"):
        grid([record(0, "a"), replace(record(0, "b"), gold=(1, 1))])


def test_a_translation_of_an_item_is_the_same_item_and_another_task_has_its_own():
    a = record(0)
    b = replace(record(1), query_language="de", query_ids=("de1", "de2"))
    c = replace(record(2), task="other")
    sample = grid([a, b, c]).scores("accuracy")
    assert sample.clusters[1].tolist() == [0, 1, 0, 1, 2, 3]
    assert sample.clusters[0].tolist() == [0, 0, 1, 1, 2, 2]


def test_meta_training_is_kept_apart(records):
    summary = summarise(records, {"fomaml": {"seconds": 90.5, "tokens": 1000, "steps": 40}})
    assert summary.meta_training == {"fomaml": MetaTraining(90.5, 1000, 40)}
    assert summary.overall == summarise(records).overall


def test_one_record_is_enough_for_a_summary():
    board = summarise([replace(record(), cost=Cost(1, 1, 1.0, 1.0, 0))]).overall
    assert (board.best.low, board.best.high) == (0, 1)


def test_importing_the_package_loads_neither_numpy_nor_torch():
    code = (
        "import sys, icl.evaluation as e; e.summarise; print({'numpy', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def graded(learner: str, lift: float, episodes: int = 30):
    """Written answers with graded scores that vary by episode."""
    rng = random.Random(learner)
    for index in range(episodes):
        hard = random.Random(index).gauss(0, 0.1)
        row = [min(1.0, max(0.0, 0.4 + hard + lift + rng.gauss(0, 0.02))) for _ in range(4)]
        exact = [float(x > 0.5) for x in row]
        yield written(["a"] * 4, ["b"] * 4, {"chrf": row, "exact_match": exact}, index, learner)


def test_written_answers_are_compared_by_each_of_their_metrics():
    records = [*graded("in-context", 0.05), *graded("zero-shot", 0.0)]
    summary = summarise(records)
    assert (summary.metric, [b.metric for b in summary.further]) == ("chrf", ["exact_match"])
    best = summary.overall.best
    own = [x for r in records if r.learner == "in-context" for x in r.outcomes("chrf")]
    assert best.learner == "in-context"
    assert best.accuracy == pytest.approx(sum(own) / len(own))
    other = summary.overall.row("zero-shot")
    assert other.difference == pytest.approx(-0.05, abs=0.02)
    assert other.p < 0.001 and other.difference_high < 0  # paired: the episodes' hardness cancels
    assert best.low < other.high  # unpaired intervals overlap
    by_name = summarise(records, metric="exact_match")
    assert by_name.overall == summary.further[0]
    assert by_name.further[0] == summary.overall


def test_graded_scores_get_the_interval_of_their_episodes_means():
    """One value an episode: Student's interval around the mean, up to Wilson's slant."""
    from scipy import stats

    records = [
        written(["a"], ["b"], {"chrf": [x]}, i) for i, x in enumerate([0.4, 0.45, 0.5, 0.55, 0.6])
    ]
    row = summarise(records).overall.best
    half = stats.t.ppf(0.975, 4) * stats.sem([0.4, 0.45, 0.5, 0.55, 0.6])
    assert row.high - row.low == pytest.approx(2 * half, rel=0.05)


def test_both_kinds_of_task_in_one_run_stand_on_boards_of_their_own():
    labelled = list(run_records(learners={"in-context": (0.6, 0, 1), "zero-shot": (0.3, 0, 1)}))
    texts = [*graded("in-context", 0.05), *graded("zero-shot", 0.0)]
    texts = [replace(r, fingerprint="f" + r.fingerprint[1:]) for r in texts]
    summary = summarise(labelled + texts)
    assert summary.overall == summarise(labelled).overall
    assert [b.metric for b in summary.further] == ["chrf", "exact_match"]
    assert summary.further[0] == summarise(texts).overall
    with pytest.raises(IclError, match="Did you mean 'chrf'"):
        summarise(labelled + texts, metric="chfr")
