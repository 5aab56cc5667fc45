"""A kind of task from a user's file serves methods of every family, and all that shows a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import yaml

import icl
from icl.cli.main import main
from icl.episodes import Episode
from icl.episodes.as_dataset import from_dataset, to_dataset
from icl.errors import IclError
from icl.learners.registry import make
from icl.models.loading.load import load_backbone
from icl.runs.folder import RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore, same_outcomes
from icl.tasks.task import Example
from tests import tiny

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
LABELS = ("food", "music", "sport")
FAMILY = {
    "schema_version": 1,
    "name": "messages",
    "description": "what a message is about",
    "licence": "CC0-1.0",
    "sources": [
        {"type": "directory", "root": ".", "file": "{language}.jsonl",
         "columns": {"label": "topics", "fields": {"text": "text"}}}
    ],
    "data": ["all"],
    "tasks": {
        "topics": {
            "kind": "topics.py:Topics", "yes": "ja", "labels": list(LABELS),
            "words": {"bb": {"food": "mat"}},
            "template": {"input": "Text: {{ text }}\nOf {{ topic }}?"},
        }
    },
    "splits": {"train": {"languages": ["aa"]}, "test": {"languages": ["bb"]}},
    "disjoint": [["train", "test", "language"]],
}  # fmt: skip
METHODS = {
    "majority": {},
    "tfidf": {},
    "in-context": {},
    "prototypes": {},
    "lora": {"steps": 2},
    "fomaml": {
        "inner_steps": 1,
        "training": {"steps": 2, "meta_batch": 2, "shots": 2, "queries": 2, "ways": 2},
    },
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("topics")
    tiny.save(folder / "model")
    shutil.copy(Path(__file__).parent / "topics.py", folder)
    (folder / "messages.yaml").write_text(yaml.safe_dump(FAMILY))
    for language in ("aa", "bb"):
        rows = [
            {"text": f"{language} {'mat' * (i % 5 + 1)} {i}",
             "topics": [t for n, t in enumerate(LABELS) if i >> n & 1]}
            for i in range(16)
        ]  # fmt: skip
        (folder / f"{language}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    experiment = {
        "schema_version": 1,
        "name": "messages",
        "model": {"name": str(folder / "model")},
        "tasks": {"family": str(folder / "messages.yaml")},
        "episodes": {"ways": 2, "shots": [0, 2], "queries": 3, "count": 2},
        "learners": {n: {"method": n, **params} for n, params in METHODS.items()},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def run(material: Path) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert command(monkeypatch, "run", material / "run.yaml", "--out", material / "run") == 0
    return material / "run"


def command(monkeypatch: Patch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["icl", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def naive(record: EpisodeRecord, episode: Episode, material: Path) -> list[str]:
    """Return a learner's answers as a person would get them who knows nothing of kinds."""
    assert episode.labels.names == LABELS
    template = episode.labels.template
    labels = replace(episode.labels, names=("yes", "no"), words=("ja", "no"), template=template)
    shown = [
        Example(
            f"{e.id}/{n}", {**e.fields, "topic": word}, "yes" if name in e.label else "no",
            e.language, e.parallel_id,
        )
        for e in episode.support
        for n, (name, word) in enumerate(zip(LABELS, episode.labels.words, strict=True))
    ]  # fmt: skip
    backbone = load_backbone(str(material / "model"))
    predictor = make(record.method, METHODS[record.method], backbone).adapt(shown, labels)
    texts = [{**e.fields, "topic": word} for e in episode.query for word in episode.labels.words]
    rows = predictor.log_probs(texts).reshape(len(episode.query), len(LABELS), 2)
    return [
        " ".join(n for n, (yes, no) in zip(LABELS, one, strict=True) if yes > no)
        for one in rows.tolist()
    ]


def test_methods_of_every_family_learn_it_and_are_judged_by_its_metrics(
    material: Path, run: Path
) -> None:
    records = RecordStore(run).read()
    episodes = {e.fingerprint: e for e in RunFolder(run).episodes()}
    assert {r.method for r in records} == METHODS.keys()
    assert len(records) == 4 * len(METHODS)
    for record in records:
        episode = episodes[record.fingerprint]
        assert record.chance == {"all_right": 0.125, "each_right": 0.5}
        assert record.references == tuple(e.label for e in episode.query)
        if record.method != "fomaml":  # which has been trained
            assert list(record.texts) == naive(record, episode, material)
        for text, right, whole, each in zip(
            record.texts, record.references, *record.scores.values(), strict=True
        ):
            same = [(label in text) == (label in right) for label in LABELS]
            assert (whole, each) == (all(same), pytest.approx(sum(same) / 3))
    assert any(text for r in records for text in r.texts)


def test_boards_page_diagnosis_and_frames_show_it(
    run: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    assert command(monkeypatch, "report", run) == 0
    said = capsys.readouterr().out
    assert "All right" in said and "chance 12.5" in said
    assert "Each right" in said and "chance 50.0" in said
    page = (run / "report.html").read_text("utf-8")
    assert "All right by shots" in page and "Of mat?" in page and "chance" in page
    assert command(monkeypatch, "diagnose", run) == 0
    found = icl.open_run(run)
    assert {"text", "reference", "all_right", "each_right"} <= set(found.queries().columns)
    assert len(found.frame()) == len(METHODS)


def test_a_run_of_it_resumes_and_is_shared_by_processes(
    material: Path, run: Path, monkeypatch: Patch, tmp_path: Path
) -> None:
    before = (run / "records.jsonl").read_bytes()
    again = shutil.copytree(run, tmp_path / "again")
    (again / "records.jsonl").write_bytes(b"".join(before.splitlines(keepends=True)[:7]))
    assert command(monkeypatch, "run", material / "run.yaml", "--out", again) == 0
    whole = RecordStore(run).read()
    assert same_outcomes(RecordStore(again).read(), whole)
    few = ["--set", "learners={tfidf: {method: tfidf}, prototypes: {method: prototypes}}"]
    words = [sys.executable, "-m", "icl", "run", str(material / "run.yaml"), *few]
    done = subprocess.run(
        [*words, "--processes", "2", "--out", str(tmp_path / "many")],
        capture_output=True, text=True, timeout=300, check=False, cwd=Path.cwd(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    some = [r for r in whole if r.method in ("tfidf", "prototypes")]
    assert same_outcomes(RecordStore(tmp_path / "many").read(), some)


def test_its_episodes_are_saved_checked_compared_and_read_again(
    material: Path, monkeypatch: Patch, tmp_path: Path, capsys: Capture
) -> None:
    definition = material / "messages.yaml"
    assert command(monkeypatch, "tasks", "check", definition) == 0
    assert command(monkeypatch, "tasks", "show", definition, "--language", "bb") == 0
    said = capsys.readouterr().out
    assert "32 examples read" in said and "yes: ja" in said and "| Of mat? " in said
    asked = ["--shots", "0,1", "--queries", "2", "--ways", "2", "--count", "2"]
    folder = tmp_path / "set"
    assert command(monkeypatch, "episodes", "make", definition, "--out", folder, *asked) == 0
    assert command(monkeypatch, "episodes", "check", folder) == 0
    family = icl.load_task(definition)
    drawn = icl.episodes.draw(family, ways=2, shots=(0, 1), queries=2, count=2)
    lines = (folder / "episodes.jsonl").read_text("utf-8").splitlines()
    assert [Episode.from_json(line) for line in lines] == drawn
    assert list(from_dataset(to_dataset(drawn))) == drawn
    posed = drawn[1].posed()
    assert posed.labels.words == ("ja", "no")
    asked_of = [e.fields["topic"] for e in posed.query]
    assert asked_of == ["mat", "music", "sport"] * 2
    found = icl.compare(["tfidf", "majority"], drawn, str(material / "model"))
    assert list(found.frame().columns[:1]) and found.queries()["each_right"].between(0, 1).all()
    with pytest.raises(IclError, match="take a classification task"):
        icl.episodes.variants.flip_labels(drawn[1])


def test_its_code_is_a_part_of_an_episode_and_its_place_is_not_of_the_code(
    material: Path, tmp_path: Path
) -> None:
    def first(change: Callable[[str], str], name: str) -> Episode:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("messages.yaml", "aa.jsonl", "bb.jsonl"):
            shutil.copy(material / file, folder)
        source = (material / "topics.py").read_text("utf-8")
        (folder / "topics.py").write_text(change(source))
        family = icl.load_task(folder / "messages.yaml")
        return icl.episodes.draw(family, ways=2, shots=1, queries=1, count=1)[0]

    drawn = [
        first(change, name)
        for change, name in [
            (lambda s: s, "same"),
            (lambda s: s + "# a comment\n", "comment"),
            (lambda s: s.replace("yes > no", "yes >= no"), "changed"),
        ]
    ]
    codes = [json.loads(episode.to_json())["kind"]["code"] for episode in drawn]
    assert codes[0] == codes[1] != codes[2]
    assert drawn[0].fingerprint == drawn[1].fingerprint != drawn[2].fingerprint
    assert drawn[0].to_json() != drawn[1].to_json()  # which says where the file is
    told = json.loads(first(lambda s: s, "read").to_json())
    told["kind"]["code"] = codes[2]
    with pytest.raises(IclError, match=r"has changed since the episodes were drawn"):
        Episode.from_json(json.dumps(told))


OWN = "kind: topics.py:Topics"
DAMAGE = [
    (OWN, "kind: topics.py:Tropics", r"field 'tasks\.topics\.kind'.*Did you mean 'Topics'"),
    (OWN, "kind: nowhere.py:Topics", r"field 'tasks\.topics\.kind'.*cannot be imported"),
    (OWN, "kind: tagging", r"field 'tasks\.topics\.kind': There is no kind"),
    ("'yes': ja", "'yes': 3", r"field 'tasks\.topics\.yes': Input should be a valid string"),
    ("'yes': ja", "yess: ja", r"field 'tasks\.topics\.yess': no such field. Did you mean 'yes'"),
    ("text: text", "topic: text", r"field 'sources\.0\.columns\.fields\.topic'.*rename it"),
]
BROKEN = [
    ('return " ".join(sorted(', "return list((", "settles .* as a list"),
    ('return " ".join(sorted(', "return answers[9] or ((", "IndexError"),
    ("/ len(labels)", "- len(labels)", r"'each_right' .* is -?\d.*from 0 to 1"),
    ("0.5 ** len(labels)", "1.5", r"'all_right' .* is 1\.5"),
    ('"yes" if name in right', '"yea" if name in right', "for 'yea', which is none of yes, no"),
    ("        return [\n", "        return [][:0] and [\n", "asks nothing"),
    (
        "value_at(row, columns.label)",
        "row['none']",
        "row 1: .* fails in `target`: Key",
    ),
]


def _copy(material: Path, folder: Path) -> None:
    for file in ("messages.yaml", "aa.jsonl", "bb.jsonl", "topics.py"):
        shutil.copy(material / file, folder)
    text = (material / "run.yaml").read_text("utf-8")
    text = text.replace(str(material / "messages.yaml"), str(folder / "messages.yaml"))
    (folder / "run.yaml").write_text(text)


@pytest.mark.parametrize(("old", "new", "told"), DAMAGE)
def test_a_definition_that_does_not_fit_it_is_told_in_one_sentence(
    old: str, new: str, told: str,
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture,
) -> None:  # fmt: skip
    _copy(material, tmp_path)
    path = tmp_path / "messages.yaml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new))
    assert command(monkeypatch, "tasks", "check", path) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    with pytest.raises(IclError, match=told):
        icl.load_task(path)


@pytest.mark.parametrize(("old", "new", "told"), BROKEN)
def test_a_kind_that_keeps_no_promise_is_told_in_one_sentence(
    old: str, new: str, told: str,
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture,
) -> None:  # fmt: skip
    _copy(material, tmp_path)
    source = (tmp_path / "topics.py").read_text("utf-8")
    assert old in source
    (tmp_path / "topics.py").write_text(source.replace(old, new))
    few = ["--set", "learners={majority: {method: majority}}", "--out", tmp_path / "run"]
    assert command(monkeypatch, "run", tmp_path / "run.yaml", *few) == 2
    said = capsys.readouterr().err.strip().splitlines()
    with pytest.raises(IclError, match=told):
        raise IclError(said[-1])


def test_a_class_that_is_no_kind_or_not_a_whole_one_is_told(material: Path, tmp_path: Path) -> None:
    _copy(material, tmp_path)
    imports = "from icl.tasks.kinds import Kind\n"
    whole = "".join(f"    def {name}(self, *_): ...\n" for name in ("target", "measures"))
    for body, told in [
        ("class Topics: ...", "no kind 'Topics'"),
        (imports + "class Topics(Kind):\n    no: str = ''", "lacks `measures`, `target`"),
        (imports + "class Topics(Kind):\n    labels: str = ''\n" + whole,
         "has a field 'labels', which all tasks have"),
        (imports + "class Topics(Kind):\n    yes: str\n    near: float\n" + whole,
         r"field 'tasks\.topics\.near': this field is missing"),
    ]:  # fmt: skip
        folder = tmp_path / str(len(body))
        folder.mkdir()
        shutil.copy(tmp_path / "messages.yaml", folder)
        (folder / "topics.py").write_text(body)
        with pytest.raises(IclError, match=told):
            icl.load_task(folder / "messages.yaml")


def test_all_words_that_a_kind_shows_are_a_templates_to_name(material: Path) -> None:
    family = icl.load_task(material / "messages.yaml")
    shown = list(chain(*(e.fields for e in family.load("topics", "bb").examples)))
    assert set(shown) == {"text"}  # the topic is a question's, and no part of an example
