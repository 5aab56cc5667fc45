from __future__ import annotations

import json
from pathlib import Path

import pytest

from icl.errors import IclError
from icl.tasks import family_names, load_family

DEFINITION = """\
schema_version: 1
name: toy
description: a toy
licence: CC0
sources:
  - type: directory
    env: ICL_DATA_TOY
    columns: {id: id, label: label, fields: {text: text}}
data: [train, test]
tasks:
  mood:
    labels: [good, bad]
    words: {default: {good: fine}, fr: {good: bon}}
    template: {input: "{{ text }} ="}
splits:
  train: {languages: [en], data: [train]}
  test: {languages: [fr], data: [test]}
disjoint:
  - [train, test, id]
"""
ROWS = [{"id": 1, "text": "a", "label": "good"}, {"id": 2, "text": "b", "label": "bad"}]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for language in ("en", "fr"):
        for part in ("train", "test"):
            folder = tmp_path / "data" / language
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(row) + "\n" for row in ROWS)
            (folder / f"{part}.jsonl").write_text(text)
    (tmp_path / "toy.yaml").write_text(DEFINITION)
    return tmp_path


def load(toy: Path):  # type: ignore[no-untyped-def]
    return load_family(str(toy / "toy.yaml"), data=toy / "data")


def edit(toy: Path, old: str, new: str) -> None:
    text = (toy / "toy.yaml").read_text()
    assert old in text
    (toy / "toy.yaml").write_text(text.replace(old, new))


def test_splits_admit_only_their_own_data(toy: Path) -> None:
    family = load(toy)
    assert [e.parallel_id for e in family.examples("train", "mood", "en")] == ["train/1", "train/2"]
    assert [e.parallel_id for e in family.examples("test", "mood", "fr")] == ["test/1", "test/2"]


def test_words_fall_back_from_language_to_default_to_name(toy: Path) -> None:
    family = load(toy)
    assert family.load("mood", "fr").words == {"good": "bon", "bad": "bad"}
    assert family.load("mood", "en").words == {"good": "fine", "bad": "bad"}


def test_the_environment_may_name_the_directory(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_DATA_TOY", str(toy / "data"))
    assert len(load_family(str(toy / "toy.yaml")).load("mood", "en").examples) == 4


def test_a_task_is_read_once(toy: Path) -> None:
    family = load(toy)
    assert family.load("mood", "en") is family.load("mood", "en")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "labels: [good, bad]",
            "labels: [good, good]",
            r"line 12, field 'tasks.mood.labels.1': .*twice",
        ),
        ("{good: fine}", "{god: fine}", "unknown label 'god'. Did you mean 'good'"),
        ("data: [test]}", "data: [tset]}", "unknown data 'tset'. Did you mean 'test'"),
        ("- [train, test, id]", "- [train, tets, id]", "unknown split 'tets'. Did you mean 'test'"),
        ("[fr], data: [test]", "[fr], data: [train]", "share no id but share train"),
        ("type: directory", "type: folder", r"line 6, field 'sources.0"),
        ("licence: CC0", "license: CC0", "'license': no such field. Did you mean 'licence'"),
        ("schema_version: 1", "schema_version: 9", r"line 1, field 'schema_version'"),
    ],
)
def test_faults_in_a_definition_are_told_with_place_and_mend(
    toy: Path, old: str, new: str, expected: str
) -> None:
    edit(toy, old, new)
    with pytest.raises(IclError, match=expected):
        load(toy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"id": 1, "text": "a"}', r"train.jsonl, row 1: the column 'label' is missing"),
        ('{"id": 1, "txt": "a", "label": "bad"}', r"'text' is missing. Did you mean 'txt'"),
        ('{"id": 1, "text": " ", "label": "bad"}', r"row 1: the field 'text' is empty"),
        ('{"id": 1, "text": "a", "label": "bda"}', r"'bda' is not in the definition.*'bad'"),
        (
            '{"id": 1, "text": "a", "label": "bad"}\n{"id": 1, "text": "b", "label": "bad"}',
            r"row 2: the id '1' stands in row 1",
        ),
        ("{", r"row 1: not valid JSON"),
        ("[1]", r"row 1: not a JSON object"),
    ],
)
def test_faults_in_the_data_are_told_with_file_row_and_mend(
    toy: Path, text: str, expected: str
) -> None:
    (toy / "data" / "en" / "train.jsonl").write_text(text)
    with pytest.raises(IclError, match=expected):
        load(toy).load("mood", "en")


def test_a_wrong_encoding_is_named(toy: Path) -> None:
    (toy / "data" / "en" / "train.jsonl").write_bytes(b'{"text": "\xe9"}')
    with pytest.raises(IclError, match="not UTF-8"):
        load(toy).load("mood", "en")


def test_a_missing_language_and_a_missing_directory_are_named(toy: Path) -> None:
    with pytest.raises(IclError, match=r"no file .*Did you mean|no file .*Known"):
        load(toy).load("mood", "de")
    with pytest.raises(IclError, match="does not exist; check `--data`"):
        load_family(str(toy / "toy.yaml"), data=toy / "gone")


def test_without_directory_or_hub_source_the_user_is_told_what_to_name(toy: Path) -> None:
    with pytest.raises(IclError, match="`--data` or in the environment variable ICL_DATA_TOY"):
        load_family(str(toy / "toy.yaml"))


def test_an_unknown_family_suggests_the_nearest() -> None:
    assert {"cldr", "sib200"} <= set(family_names())
    with pytest.raises(IclError, match="Did you mean 'sib200'"):
        load_family("sib20")


def test_a_hub_that_cannot_be_reached_is_told_with_the_local_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.delenv("ICL_DATA_SIB200", raising=False)
    with pytest.raises(IclError, match=r"'Davlan/sib200'.*`--data` or ICL_DATA_SIB200"):
        load_family("sib200").load("topic", "eng_Latn")


def test_sib200_is_whole_parallel_and_apart(shared_data: Path) -> None:
    if not (shared_data / "sib200").is_dir():
        pytest.skip("the SIB-200 files are not here")
    family = load_family("sib200", data=shared_data / "sib200")
    for split, size in (("train", 701), ("validation", 99), ("test", 204)):
        ids = {
            frozenset((e.parallel_id, e.label) for e in family.examples(split, "topic", language))
            for language in family.split(split).languages
        }
        assert len(ids) == 1
        assert len(next(iter(ids))) == size
