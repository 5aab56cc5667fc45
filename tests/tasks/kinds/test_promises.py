"""What somebody's own kind does wrong is told in one sentence, and nothing it says is dropped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import icl
from icl.errors import IclError
from icl.models import Model
from icl.tasks.definitions.extends import read_definition
from icl.tasks.definitions.survey import survey

HEAD = """
from dataclasses import replace
from icl.tasks.kinds import Kind, Metric, Question, Target, text_of
from icl.tasks.kinds.classification import Classification
from icl.tasks.kinds.multiple_choice import MultipleChoice

class Base(Kind):
    def target(self, row, columns, task):
        return Target(task.find(text_of(row, columns.label)))
    def measures(self, labels):
        return {"right": Metric(lambda a, right: float(a == right), 0.5)}
"""
FAMILY = {
    "schema_version": 1, "name": "own", "description": "own", "licence": "CC0-1.0",
    "data": ["all"],
    "sources": [{"type": "directory", "root": ".", "file": "rows.jsonl",
                 "columns": {"label": "label", "fields": {"text": "text"}}}],
    "tasks": {"own": {"kind": "own.py:Own", "labels": ["a", "b"],
                      "template": {"input": "{{ text }}:"}}},
    "splits": {"test": {"languages": ["en"]}},
}  # fmt: skip


def write(folder: Path, code: str, name: str = "Own") -> Path:
    (folder / "own.py").write_text(HEAD + code, "utf-8")
    rows = [{"text": f"{label} {place}", "label": label} for label in "ab" for place in range(9)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    text = yaml.safe_dump(FAMILY).replace("own.py:Own", f"own.py:{name}")
    (folder / "own.yaml").write_text(text, "utf-8")
    return folder / "own.yaml"


WRONG = [
    ("check(self, task): raise KeyError('boo')", r"fails in `check`: KeyError: 'boo'; mend it"),
    ("check_columns(self, *_): return self.nothing", "fails in `check_columns`: AttributeError"),
    ("shows(self, labels): return labels[7]", "fails in `shows`: IndexError"),
    ("shows(self, labels): return 'text'", "returns 'text' from `shows`; let it return names"),
    ("target(self, *_): return 'a'", r"row 1: .*returns 'a' from `target`; let it return a `Tar"),
    ("target(self, *_): return Target('a', {'n': 3})", "fields that are texts"),
    ("strata(self, labels): raise RuntimeError", "fails in `strata`: RuntimeError: no reason"),
    ("among(self, *_): return ('x', 'a')", "let `among` return labels of the task's: a, b"),
    ("space(self, labels): return None", "returns None from `space`; let it return `Labels`"),
    ("questions(self, e, labels): return None", "fails in `questions`: TypeError"),
    ("questions(self, e, labels): return [(e, 'a')]", "let it return `Question`s"),
    ("questions(self, e, labels): return [Question({**e.fields, 'n': 1}, 'a')]", "are texts"),
    ("measures(self, labels): return None", "let it return one `Metric` or more by name"),
    ("measures(self, labels): return {1: Metric(float)}", "one `Metric` or more by name"),
]


@pytest.mark.parametrize(("method", "told"), WRONG)
def test_a_method_that_fails_or_returns_what_it_may_not_is_named(
    method: str, told: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"class Own(Base):\n    def {method}\n")
    with pytest.raises(IclError, match=told) as caught:
        survey(read_definition(path), None)
        drawn = icl.episodes.draw(icl.load_task(path), ways=2, shots=1, queries=1, count=1)
        icl.compare(["majority"], drawn, Model())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["measures(self, labels): ...", "settle(self, *_): ..."])
def test_a_judgement_that_would_never_be_asked_for_is_refused(method: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"class Own(Classification):\n    def {method}\n")
    with pytest.raises(IclError, match="would never be asked; set `single = False`"):
        icl.load_task(path)


def test_what_is_derived_from_multiple_choice_stays_itself_in_episodes(tmp_path: Path) -> None:
    write(tmp_path, "class Own(MultipleChoice):\n    single = False\n")
    kind = icl.tasks.kinds.registry.kind_class(f"{tmp_path / 'own.py'}:Own")()
    assert kind.in_episode is kind


def test_questions_may_be_yielded_and_scores_be_of_numpy(tmp_path: Path) -> None:
    code = """
import numpy as np
class Own(Base):
    def questions(self, example, labels):
        yield Question(example.fields, example.label)
    def measures(self, labels):
        return {"right": Metric(lambda a, right: np.float32(a == right), np.float32(0.5))}
"""
    drawn = icl.episodes.draw(
        icl.load_task(write(tmp_path, code)), ways=2, shots=1, queries=2, count=1
    )
    assert len(drawn[0].posed().query) == 2
    found = icl.compare(["majority"], drawn, Model()).records[0]
    assert set(map(type, found.scores["right"])) == {float} and found.chance == {"right": 0.5}


SHOW = """
import sys, icl
drawn = icl.episodes.draw(icl.load_task(sys.argv[1]), ways=2, shots=1, queries=1, count=1)[0]
assert icl.episodes.Episode.from_json(drawn.to_json()).fingerprint == drawn.fingerprint
print(drawn.fingerprint)
"""


def test_sets_and_letters_of_any_script_are_the_same_everywhere(tmp_path: Path) -> None:
    code = "class Thème(Base):\n    among_words: frozenset[str] = frozenset(map(str, range(99)))\n"
    seen = set()
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        path = write(folder, code, "Thème")
        asked = [sys.executable, "-c", SHOW, str(path)]
        seen.add(subprocess.check_output(asked, env={"PYTHONHASHSEED": seed}, text=True))
    assert len(seen) == 1


def test_episodes_say_from_where_their_kind_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "class Own(Base): ...\n")
    monkeypatch.chdir(tmp_path)
    drawn = icl.episodes.draw(icl.load_task(path), ways=2, shots=1, queries=1, count=1)[0].to_json()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(IclError, match="seen from the directory in which the episodes were drawn"):
        icl.episodes.Episode.from_json(drawn)
