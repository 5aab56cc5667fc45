"""The statistics on a table, and tables of records."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as peer

from icl.errors import IclError
from icl.evaluation import analysis
from icl.evaluation.frame import episode_frame, query_frame, write_parquet
from icl.evaluation.statistics import holm
from icl.evaluation.summary import summarise
from tests.evaluation.synthetic import LEARNERS, run_records, written


@pytest.fixture(scope="module")
def records():
    return list(run_records(languages=("de", "sw", "ja"), episodes_per_cell=3))


@pytest.fixture(scope="module")
def frame(records):
    return query_frame(records)


def test_a_table_has_a_row_a_query_and_says_what_the_records_say(records, frame):
    assert len(frame) == sum(len(r.gold) for r in records)
    one = records[3]
    part = frame[(frame.learner == one.learner) & (frame.episode == one.fingerprint)]
    assert tuple(part.gold) == tuple(one.labels[c] for c in one.gold)
    assert tuple(part.right) == one.outcomes()
    assert part.log_prob.tolist() == [
        row[g] for row, g in zip(one.log_probs, one.gold, strict=True)
    ]
    assert part.confidence.to_numpy() == pytest.approx(
        [math.exp(row[p]) for row, p in zip(one.log_probs, one.predictions, strict=True)]
    )
    episodes = episode_frame(records)
    assert len(episodes) == len(records)
    assert episodes.accuracy.tolist() == pytest.approx([r.accuracy for r in records])
    assert episodes.seconds.sum() == pytest.approx(sum(r.cost.seconds for r in records))


def test_parquet_gives_the_table_back(records, frame, tmp_path):
    again = pd.read_parquet(write_parquet(records, tmp_path / "records.parquet"))
    assert again.columns.tolist() == frame.columns.tolist()
    assert again.drop(columns="log_probs").equals(frame.drop(columns="log_probs"))
    assert [list(row) for row in again.log_probs] == frame.log_probs.tolist()
    with pytest.raises(IclError, match="no records to write"):
        write_parquet([], tmp_path / "none.parquet")
    with pytest.raises(IclError, match="Cannot write"):
        write_parquet(records, tmp_path / "no" / "such" / "folder.parquet")


def test_means_and_differences_are_those_of_the_report(records, frame):
    board = summarise(records).overall
    found = analysis.means(frame)
    assert found.learner.tolist() == [row.learner for row in board.rows]
    for column, name in (("mean", "accuracy"), ("low", "low"), ("high", "high")):
        assert found[column].tolist() == pytest.approx([getattr(r, name) for r in board.rows])
    assert found.probability_best.sum() == pytest.approx(1)
    assert found.probability_best.idxmax() == 0
    table = analysis.compare(frame)
    assert len(table) == len(LEARNERS) * (len(LEARNERS) - 1) / 2
    best = board.best.learner
    for row in board.rows[1:]:
        both = [best, row.learner]  # `table.first` is a method before pandas 3
        pair = table[table["first"].isin(both) & table["second"].isin(both)]
        line = pair.iloc[0]
        sign = 1 if line["first"] == row.learner else -1
        assert sign * line["difference"] == pytest.approx(row.difference)
        assert line["p_holm"] == pytest.approx(row.p)
    assert table.p_holm.tolist() == holm(table.p.to_numpy()).tolist()


def test_comparing_with_one_learner_named_before_corrects_for_fewer(frame):
    table = analysis.compare(frame, against="majority")
    assert set(table.second) == {"majority"} and len(table) == len(LEARNERS) - 1
    assert np.all(table.p_holm <= np.minimum(1, table.p * len(table)) + 1e-12)
    clear = table[table["first"] == "prototypes"].iloc[0]
    assert clear.p_permutation < 0.001 and clear.p_mcnemar < 0.001 and clear.superiority > 0.9
    with pytest.raises(IclError, match="Did you mean 'majority'"):
        analysis.compare(frame, against="majorty")


def test_a_table_from_elsewhere_needs_four_columns_only():
    rng = np.random.default_rng(0)
    rows = [
        (learner, e, q, float(rng.random() < level))
        for learner, level in (("mine", 0.8), ("theirs", 0.5))
        for e in range(20)
        for q in range(10)
    ]
    table = pd.DataFrame(rows, columns=["learner", "episode", "query", "right"])
    assert analysis.means(table).learner.tolist() == ["mine", "theirs"]
    line = analysis.compare(table).iloc[0]
    assert line.difference == pytest.approx(0.3, abs=0.1) and line.p < 0.001
    with pytest.raises(IclError, match=r"no column 'rihgt'\. Did you mean 'right'"):
        analysis.means(table, "rihgt")
    with pytest.raises(IclError, match="1 of 200 queries lack"):
        analysis.means(table.iloc[1:])
    with pytest.raises(IclError, match="twice"):
        analysis.means(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(IclError, match="from 0 to 1"):
        analysis.means(table.assign(right=2.0))


def test_graded_outcomes_have_no_mcnemar():
    records = [
        written(["a"], ["b"], {"chrf": [x]}, i, name)
        for name, base in (("one", 0.5), ("two", 0.4))
        for i, x in enumerate(base + np.random.default_rng(0).random(12) / 10)
    ]
    table = query_frame(records)
    assert "gold" not in table
    line = analysis.compare(table, "chrf").iloc[0]
    assert math.isnan(line.p_mcnemar) and line.difference == pytest.approx(0.1)


def test_ranks_over_languages_are_those_of_the_languages_means(frame):
    table, tests = analysis.ranks(frame, by="query_language")
    assert table.mean_rank.is_monotonic_increasing
    assert table.mean_rank.to_numpy() == pytest.approx(tests.mean)
    means = frame.groupby(["query_language", "learner"]).right.mean().unstack()
    expected = means.rank(axis=1, ascending=False).mean()
    for row in table.itertuples():
        assert row.mean_rank == pytest.approx(expected[row.learner])
    with pytest.raises(IclError, match="two values of 'split'"):
        analysis.ranks(frame, by="split")


def test_variance_goes_to_the_source_that_makes_it():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.1, 20)
    rows = [
        {
            "seed": s,
            "order": o,
            "episode": e,
            "right": 0.5 + 0.1 * s + hard[e] + rng.normal(0, 0.02),
        }
        for s in range(4)
        for o in range(3)
        for e in range(20)
    ]
    table = analysis.variance(pd.DataFrame(rows), ["seed", "order"]).set_index("source")
    assert table.share.sum() == pytest.approx(1)
    assert table.share["seed"] > 0.99 and table.p["seed"] < 1e-6 and table.p["order"] > 0.05
    with pytest.raises(IclError, match="every episode"):
        analysis.variance(pd.DataFrame(rows[1:]), ["seed", "order"])


def test_every_metric_of_a_table_equals_its_own_of_scikit_learn(frame):
    part = frame[frame.learner.isin(["prototypes", "lora"])]
    found = analysis.metrics(part, draws=40).set_index(["learner", "metric"])
    for learner, own in part.groupby("learner"):
        value = found.loc[learner].value
        assert value["accuracy"] == pytest.approx(own.right.mean())
        assert value["macro_f1"] == pytest.approx(
            peer.f1_score(own.gold, own.prediction, average="macro")
        )
        assert value["mcc"] == pytest.approx(peer.matthews_corrcoef(own.gold, own.prediction))
        assert value["nll"] == pytest.approx(-own.log_prob.mean())
        by_language = own.groupby("query_language").right.mean()
        assert value["worst_language_accuracy"] == pytest.approx(by_language.min())
        assert value["worst_episode_accuracy"] == own.groupby("episode").right.mean().min()
        within = own[own.support_language == own.query_language].groupby("query_language")
        across = own[own.support_language != own.query_language].groupby("query_language")
        gap = (within.right.mean() - across.right.mean()).mean()
        assert value["cross_lingual_gap"] == pytest.approx(gap)
    drawn = found[found.low.notna()]
    assert set(drawn.index.get_level_values("metric")) == {
        "accuracy", "balanced_accuracy", "macro_f1", "mcc", "nll", "brier", "ece",
    }  # fmt: skip
    assert (drawn.low <= drawn.high).all()
    inside = drawn.drop("ece", level="metric")  # a bootstrap of ECE is biased upwards
    assert ((inside.low <= inside.value) & (inside.value <= inside.high)).all()


def test_that_one_setting_is_harder_widens_no_interval_of_a_metric(frame):
    own = frame[frame.learner == "prototypes"]
    easy = own.setting == "within"
    made = own.assign(prediction=own.gold.where(easy, "wrong"), right=easy.astype(float))
    found = analysis.metrics(made, draws=40).set_index("metric").loc["accuracy"]
    assert found.low == found.value == found.high == pytest.approx(easy.mean())
