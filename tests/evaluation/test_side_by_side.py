"""Runs side by side, and the reasons why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from icl.errors import IclError
from icl.evaluation.side_by_side import together
from icl.evaluation.summary import summarise
from icl.runs.finished import FinishedRun
from tests.evaluation.synthetic import run_records

CONFIG = {"seed": 0, "tasks": {"family": "cldr", "data": "/a"}, "episodes": {"count": 3}}


def run(folder: str, learners: list[str], config=CONFIG, seed: int = 0, limit: int = 88):
    wanted = dict.fromkeys(learners, (0.5, 0.1, 1.0))
    records = tuple(r for r in run_records(learners=wanted, seed=seed) if r.index < limit)
    records = tuple(replace(r, fingerprint=f"{seed}{r.fingerprint[1:]}") for r in records)
    training = {learners[0]: {"seconds": 1.0, "tokens": 2, "steps": 3}}
    prints = tuple(dict.fromkeys(r.fingerprint for r in records))
    return FinishedRun(Path("runs") / folder, records, prints, training, config)


def same_queries(a: FinishedRun, b: FinishedRun) -> FinishedRun:
    """Give b's records the queries of a's episodes."""
    by_print = {r.fingerprint: r for r in a.records}
    made = tuple(
        replace(r, gold=by_print[r.fingerprint].gold, query_ids=by_print[r.fingerprint].query_ids,
                parallel_ids=by_print[r.fingerprint].parallel_ids)
        for r in b.records
    )  # fmt: skip
    return replace(b, records=made)


def test_learners_of_all_runs_stand_on_one_board_and_shared_names_are_told_apart():
    a = run("small", ["lora", "zero-shot"])
    b = same_queries(a, run("large", ["lora", "prototypes"]))
    found = together([a, b])
    names = {r.learner for r in found.records}
    assert names == {"small: lora", "zero-shot", "large: lora", "prototypes"}
    assert set(found.meta_training) == {"small: lora", "large: lora"}
    board = summarise(found.records, found.meta_training).overall
    assert board.episodes == 88 and len(board.rows) == 4


def test_folders_of_one_name_are_named_by_what_is_above_them():
    a = run("x/run", ["lora"])
    b = same_queries(a, run("y/run", ["lora"]))
    assert {r.learner for r in together([a, b]).records} == {"x/run: lora", "y/run: lora"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, r"differ in `seed` \(0 and 1\)\."),
        ({"episodes": {"count": 5}}, r"`episodes\.count` \(3 and 5\)"),
        (
            {"tasks": {"family": "sib200", "data": "/b"}},
            r"in `tasks\.family` \(cldr and sib200\)\.",
        ),
        ({"tasks": {"family": "cldr", "data": "/b"}}, "data or templates have changed"),
    ],
)
def test_other_episodes_are_refused_with_the_reason(change, said):
    a, b = run("a", ["lora"]), run("b", ["lora"], CONFIG | change, seed=1)
    with pytest.raises(IclError, match=said) as error:
        together([a, b])
    assert "a and b cannot be compared" in str(error.value)
    assert "88 and 88, 0 of them the same" in str(error.value)


def test_a_run_cut_short_is_told():
    a, b = run("a", ["lora"]), run("b", ["lora"], limit=40)
    with pytest.raises(IclError, match="b was run with a lower --limit"):
        together([a, b])


def test_too_few_and_doubled_runs_are_told():
    with pytest.raises(IclError, match="two runs or more"):
        together([run("a", ["lora"])])
    with pytest.raises(IclError, match="named twice"):
        together([run("a", ["lora"]), run("a", ["lora"])])
