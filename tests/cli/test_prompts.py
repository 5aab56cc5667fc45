"""`icl prompts`: the whole road on a tiny model, resumed and refused."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icl.models.loading import load as loading
from icl.runs.folder import RunFolder
from icl.runs.store import RecordStore
from tests.place import Place, must_not_load

FAMILY = """\
schema_version: 1
name: things
description: made-up things
licence: CC0-1.0
sources:
  - type: directory
    env: ICL_DATA_THINGS
    columns: {id: id, label: label, fields: {text: text}}
    file: "{language}/{split}.jsonl"
data: [all]
tasks:
  kind:
    labels: [animal, plant, stone]
    skip: [star]
    template: {input: "Text: {{ text }}\\nKind:"}
splits:
  validation: {languages: [aa]}
  test: {languages: [bb]}
disjoint:
  - [validation, test, language]
"""

STUDY = """\
schema_version: 1
name: study
model: {name: MODEL}
tasks: {family: FAMILY, data: DATA}
episodes:
  ways: 3
  shots: [1, 2]
  queries: 3
  validation: {split: validation, count: 2}
  test: {split: test, count: 3}
factors:
  template: [task, arrow]
  order:
    given: {order: given}
    random: {order: random, seed: 1}
  calibration: [none, contextual]
fixed: {normalise: token}
"""


@pytest.fixture
def place(place: Place) -> Place:
    """The same folder with a study of prompts."""
    study = replace(place, text=STUDY, family=FAMILY, name="study")
    study.write()
    return study


class Tags(HTMLParser):
    """Checks that every tag is closed, and notes what would need the network."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [v for k, v in attrs if k in {"src", "href"} and v] + ["script"] * (
            tag == "script"
        )
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "rect"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_study_ends_in_tables_and_one_self_contained_page(place: Place) -> None:
    code, out, err = place.icl("prompts", place.write())
    assert code == 0, err
    records = RecordStore(Path("runs/study")).read()
    assert len(records) == 8 * (2 + 3) * 2
    assert len({r.fingerprint for r in records}) == (2 + 3) * 2
    for told in ("in 8 ways", "What explains the variance", "template", "Best prompt at 2", "p"):
        assert told in out
    page = Path("runs/study/prompts.html").read_text("utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.outside == []
    assert "arrow · random · contextual" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_finished_study_is_shown_again_without_a_model(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = place.write()
    _, first, _ = place.icl("prompts", config)
    page = Path("runs/study/prompts.html").read_bytes()

    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    code, second, err = place.icl("prompts", config)
    assert code == 0, err
    assert second == first
    assert Path("runs/study/prompts.html").read_bytes() == page


def test_a_limited_study_is_a_part_of_the_whole_one(place: Place) -> None:
    config = place.write()
    assert place.icl("prompts", config, "--limit", 2)[0] == 0
    few = RecordStore(Path("runs/study")).read()
    place.icl("prompts", config)
    assert RecordStore(Path("runs/study")).read()[: len(few)] == few


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("split: test", "split: validation", "judged where it was chosen"),
        ("[task, arrow]", "[task, arow]", "Did you mean 'arrow'"),
        ("calibration: [", "calibratoin: [", "Did you mean 'calibration'"),
        ("[none, contextual]", "[none, none]", "different levels"),
        ("calibration: [none, contextual]", "shots: [1, 2]", "shots are a factor already"),
        ("order: random,", "choice: knn,", "needs `demonstrations`"),
        ("split: test", "split: tset", "Did you mean 'test'"),
        ("MODEL", "./nowhere", "'./nowhere' does not exist"),
        ("name: study", "nam: study", "Did you mean 'name'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    old: str, new: str, told: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    code, _, err = place.icl("prompts", place.write(old, new))
    assert code == 2
    assert len(err.strip().splitlines()) == 1, err
    assert told in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "prompt_study"), "run it with `icl prompts`"),
        (("prompts", "quickstart"), "run it with `icl run`"),
        (("prompts", "prompt_stdy"), "Did you mean 'prompt_study'"),
    ],
)
def test_a_file_of_the_other_kind_is_told(
    arguments: tuple[str, ...], told: str, place: Place
) -> None:
    code, _, err = place.icl(*arguments)
    assert code == 2
    assert told in err


def test_demonstrations_of_a_study_may_come_from_a_pool(place: Place) -> None:
    config = place.write(
        "[none, contextual]\nfixed: {normalise: token}",
        "[none]\nfixed: {pool: true, choice: bm25, demonstrations: 4}",
    )
    text = config.read_text("utf-8").replace("queries: 3", "queries: 3\n  pool: 3")
    config.write_text(text, "utf-8")
    code, _, err = place.icl("prompts", config, "--limit", 2)
    assert code == 0, err
    episodes = RunFolder(Path("runs/study")).episodes()
    assert {len(episode.pool) for episode in episodes} == {3}
    assert RecordStore(Path("runs/study")).read()
