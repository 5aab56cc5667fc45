from __future__ import annotations

import io

import pytest
from rich.console import Console

from icl.errors import IclError
from icl.reporting import print_table
from tests.evaluation.synthetic import LEARNERS, run_records


def printed(records, meta_training=None, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_table(records, console, meta_training)
    return console.file.getvalue()


def test_eighty_columns_hold_every_learner_whole_and_every_figure():
    text = printed(run_records())
    for name in LEARNERS:
        assert f"{name} " in text
    assert all(len(line) <= 80 for line in text.splitlines())
    (best,) = [line for line in text.splitlines() if "best" in line and "126" in line]
    assert best.split() == ["prototypes", "68.9", "%", "64.0–73.3", "best", "126", "ms", "270"]
    assert "…" not in text


def test_each_setting_has_its_table_by_shots():
    text = printed(run_records(shots=(1, 2, 4, 8)))
    assert "within: accuracy in %" in text and "cross-lingual: accuracy in %" in text
    assert text.count("8 shots") == 2 and text.count("1 shot ") == 2


def test_one_setting_and_one_shot_have_one_table():
    text = printed(run_records(settings=("within",), shots=(1,)))
    assert "within: accuracy" not in text and "All episodes" in text


def test_names_that_look_like_markup_are_printed_as_they_are():
    text = printed(run_records(learners={"[red]x[/red]": (0.5, 0, 1), "[bold]": (0.9, 0, 1)}))
    assert "[red]x[/red]" in text and "[bold] learns best" in text


def test_meta_training_stands_apart():
    text = printed(run_records(), {"fomaml": {"seconds": 75, "tokens": 1_234_567, "steps": 40}})
    assert "Meta-training" in text and "1\xa0min 15\xa0s" in text and "1.23M" in text
    assert "Meta-training" not in printed(run_records())


def test_nothing_to_show_is_one_sentence():
    with pytest.raises(IclError, match="no records"):
        printed([])
