"""Somebody's own method: found by its file or module, told when it cannot be, part of every key."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl.errors import IclError
from icl.learners.base import checked_scores
from icl.learners.registry import (
    about,
    home,
    is_meta_learner,
    learner_class,
    make,
    validate,
)
from icl.runs.keys import learner_key
from tests import tiny
from tests.learners import problems

SOURCE = '''
from icl.learners import Params
from icl.learners.baselines.majority import Majority

class MineParams(Params):
    strength: int = 1

class Mine(Majority):
    """The majority, under another name. More words."""
    method = "mine"
    Params = MineParams
    def __init__(self, backbone, params):
        self.params = params
'''


def write(folder: Path, text: str = SOURCE, name: str = "mine.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8")
    return f"{folder / name}:Mine"


def test_it_is_made_checked_and_described_like_any_other(tmp_path: Path) -> None:
    method = write(tmp_path)
    assert not is_meta_learner(method)
    assert about(method) == "The majority, under another name."
    learner = make(method, {"strength": 3}, tiny.backbone())
    assert learner.params.strength == 3  # type: ignore[attr-defined]
    assert (
        learner.adapt(problems.support(), problems.labels())
        .log_probs([{"text": "x"}])
        .isfinite()
        .all()
    )
    with pytest.raises(IclError, match=r"Did you mean 'strength'"):
        validate(method, {"strenght": 3})


def test_it_may_lie_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, name="icl_test_own_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    learner_class("icl_test_own_module:Mine")


def test_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    one = write(tmp_path / "one")
    other = write(tmp_path / "other", SOURCE.replace("The majority", "Another"))
    assert (about(one), about(other)) == (
        "The majority, under another name.",
        "Another, under another name.",
    )
    assert home(one) != home(other)


def test_its_code_is_its_key_and_not_its_place_or_comments(tmp_path: Path) -> None:
    def key(folder: str, text: str) -> str:
        return learner_key(write(tmp_path / folder, text), {}, "model")

    before = key("one", SOURCE)
    assert key("two", SOURCE.replace("Another", "The") + "\n# another thought\n") == before
    assert key("three", SOURCE.replace("= params", "= (params)")) == before
    assert key("four", SOURCE.replace("= params", "= 1")) != before


def test_a_process_goes_by_the_code_that_it_has_imported(tmp_path: Path) -> None:
    method = write(tmp_path)
    learner_class(method)
    write(tmp_path, SOURCE.replace("= params", "= 1"))  # an edit beside a notebook that is open
    made = make(method, {}, tiny.backbone())
    assert made.params.strength == 1  # type: ignore[attr-defined]
    other = write(tmp_path / "elsewhere")
    assert learner_key(method, {}, "model") == learner_key(other, {}, "model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Other: pass", "has no learner 'Mine'"),
        (SOURCE.replace("class Mine(", "class Mien("), "Did you mean 'Mien'"),
        ("def broken(:", "cannot be imported: "),
        ("raise RuntimeError('on purpose')", "cannot be imported: on purpose"),
        ("import sys; sys.exit(0)", "cannot be imported: SystemExit"),
    ],
)
def test_what_is_wrong_with_it_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(IclError) as told:
        learner_class(write(tmp_path, text))
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_missing_file_or_module_is_told(tmp_path: Path) -> None:
    for missing in (f"{tmp_path / 'none.py'}:Mine", "no_such_module:Mine"):
        with pytest.raises(IclError, match="cannot be imported"):
            learner_class(missing)


@pytest.mark.parametrize(
    ("body", "told"),
    [("raise KeyError('boo')", "KeyError: 'boo'"), ("return 'score'", "returns 'score'"),
     ("return {'scores'}", r"returns \{'scores'\}.*out of score, write")],
)  # fmt: skip
def test_what_it_needs_is_a_set_of_abilities(body: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from icl.learners import Learner\nclass Own(Learner):\n    method = 'own'\n"
        "    def __init__(self, *_): raise KeyError('made')\n    def adapt(self, *_): ...\n"
        f"    @classmethod\n    def needs(cls, params): {body}\n"
        "class Raises(Own):\n    needs = classmethod(lambda *_: set())\n"
    )
    with pytest.raises(IclError, match=f"does not say what it needs .*{told}"):
        make(f"{tmp_path / 'own.py'}:Own", {}, None)
    with pytest.raises(IclError, match="cannot be made: KeyError: 'made'"):
        make(f"{tmp_path / 'own.py'}:Raises", {}, None)


def test_its_parameters_are_a_class_of_ours(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from icl.learners import Learner\nclass Own(Learner):\n    Params = dict\n"
    )
    with pytest.raises(IclError, match="derive its `Params` from"):
        make(f"{tmp_path / 'own.py'}:Own", {}, None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("torch.tensor([[0.5, 0.5]])", r"no log-probabilities: those of a query add up to 3\.3"),
        ("torch.tensor([[-3.0, -3.0]])", r"add up to 0\.0996; let `log_probs` return"),
        ("[[-0.7, -0.7]]", r"gave list for 1 queries; let `log_probs` return a tensor"),
        ("None", r"gave NoneType for 1 queries"),
        ("torch.zeros(2, 1)", r"gave \(2, 1\) for 1 queries"),
        ("torch.tensor([[float('nan'), 0.0]])", "not numbers"),
    ],
)
def test_scores_that_are_no_log_probabilities_are_told(
    tmp_path: Path, given: str, told: str
) -> None:
    text = f"import torch\n{SOURCE}    def adapt(self, support, labels):\n        return Says()\n\n"
    text += f"class Says:\n    def log_probs(self, texts):\n        return {given}\n"
    learner = make(write(tmp_path, text), {}, tiny.backbone())
    predictor = learner.adapt(problems.support(), problems.labels())
    with pytest.raises(IclError, match=told):
        checked_scores(learner, predictor, [{"text": "x"}])


def test_log_probabilities_pass_as_they_are(tmp_path: Path) -> None:
    learner = make(write(tmp_path), {"strength": 3}, tiny.backbone())
    predictor = learner.adapt(problems.support(), problems.labels())
    fields = [{"text": "x"}, {"text": "y"}]
    assert checked_scores(learner, predictor, fields).equal(predictor.log_probs(fields))
