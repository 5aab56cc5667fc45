"""Small files of a run's folder that are damaged, odd or newer: made again, or told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from icl.models.embedding.embedding_store import EmbeddingStore, content_key
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore, same_outcomes
from tests.faults.test_run import quick
from tests.place import Place

LEARNERS = """\
learners:
  majority: {method: majority}
  meta-prototypes:
    method: meta-prototypes
    training: {steps: 2, meta_batch: 2, shots: 2, queries: 3, checkpoint_every: 1}
"""
ODD = ("", "[]", "3", "{", '{"schema_version": "x"}', '{"learners": 3}', "\x00\xff")


@pytest.fixture
def run(place: Place) -> Path:
    config = quick(place, LEARNERS)
    assert place.icl("run", config, "--out", "run", "--limit", 1)[0] == 0
    return config


def change_first_record(field: str, value: object) -> tuple[dict[str, object], str]:
    """Change a field of the run's first record; return what it was, and its new line."""
    path = Path("run/records.jsonl")
    lines = path.read_text().splitlines()
    before = json.loads(lines[0])
    lines[0] = json.dumps({**before, field: value})
    path.write_text("\n".join(lines) + "\n")
    return before, lines[0]


@pytest.mark.parametrize("content", ODD)
@pytest.mark.parametrize("name", ["run.json", "environment.json", "finished.json"])
def test_what_a_run_makes_itself_it_makes_again(
    name: str, content: str, run: Path, place: Place
) -> None:
    before = RecordStore(Path("run")).read()
    (path,) = Path("run").rglob(name)
    path.write_bytes(content.encode("latin-1"))
    assert place.icl("run", run, "--out", "run", "--limit", 1)[0] == 0
    after = RecordStore(Path("run")).read()
    assert same_outcomes(before, after)  # and nothing was run twice
    if name != "environment.json":  # which stands for what was computed, and nothing was
        assert json.loads(path.read_text())


def test_a_newer_folder_is_left_as_it_is(run: Path, place: Place) -> None:
    path = Path("run/run.json")
    newer = {**json.loads(path.read_text()), "schema_version": 99}
    path.write_text(json.dumps(newer))
    before = {f: f.read_bytes() for f in Path("run").rglob("*") if f.is_file()}
    told = place.refusal("run", run, "--out", "run", "--set", "seed=5")
    assert "a newer icl has written" in told
    assert {f: f.read_bytes() for f in Path("run").rglob("*") if f.is_file()} == before


@pytest.mark.parametrize("content", ["", "[]", "3", "{"])
@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
def test_a_report_of_a_damaged_folder_is_one_sentence(
    name: str, content: str, run: Path, place: Place
) -> None:
    (Path("run") / name).write_text(content)
    assert name in place.refusal("report", "run")


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_report_does_without_the_environment(content: str, run: Path, place: Place) -> None:
    Path("run/environment.json").write_text(content)
    assert place.icl("report", "run")[0] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learner", 3), ("task", None), ("shots", "x"), ("index", [1]), ("labels", "abc"),
        ("query_ids", [[1], [2], [3]]), ("predictions", [0.5, 0.5, 0.5]), ("gold", {"0": 1}),
        ("setting", {"a": 1}), ("fingerprint", ["x"]),
    ],
)  # fmt: skip
def test_a_record_with_a_field_of_another_kind_is_a_damaged_line(
    field: str, value: object, run: Path, place: Place
) -> None:
    before, line = change_first_record(field, value)
    assert field in before
    with pytest.raises(ValueError, match=field):
        EpisodeRecord.from_json(line)
    code, _, err = place.icl("run", run, "--out", "run", "--limit", 1)
    assert code == 0
    assert err.count("skipped 1 damaged line(s) (1)") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scoring", 3), ("scoring", {"a": "b"}), ("method", "\ud800"),
        ("log_probs", [[None] * 3, [0.0, None, None], [0.0, None, None]]),
    ],
)  # fmt: skip
def test_a_record_that_no_report_could_show_is_a_damaged_line(
    field: str, value: object, run: Path, place: Place
) -> None:
    change_first_record(field, value)
    code, _, err = place.icl("report", "run")
    assert code == 0
    assert "skipped 1 damaged line(s) (1)" in err


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1" + "0" * 400, '"x"', "null"])
@pytest.mark.parametrize("name", ["finished.json", "run.json"])
def test_costs_that_are_no_numbers_are_mended_or_told(
    name: str, value: str, run: Path, place: Place
) -> None:
    (path,) = Path("run").rglob(name)
    text = path.read_text()
    path.write_text(re.sub(r'"seconds": [^,]+,', f'"seconds": {value},', text))
    if name == "run.json":
        assert "run.json is damaged" in place.refusal("report", "run")
    assert place.icl("run", run, "--out", "run", "--limit", 1)[0] == 0
    assert place.icl("report", "run")[0] == 0


def test_episodes_that_are_cut_short_are_told_and_written_again(run: Path, place: Place) -> None:
    path = Path("run/episodes.jsonl")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"\n", b"\n5\n", 1), b"null\n"):
        path.write_bytes(damaged)
        for command in ("report", "diagnose"):
            assert "episodes.jsonl is damaged" in place.refusal(command, "run")
        assert place.icl("run", run, "--out", "run", "--limit", 1)[0] == 0
        assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["gone", "torn", "deep"])
def test_a_half_trained_state_is_never_handed_out(damage: str, run: Path, place: Place) -> None:
    """The checkpoint of the first step lies beside the last one."""
    last = max(Path("run").rglob("checkpoint-*"))
    whole = last.read_bytes()
    header = b"[" * 200_000
    content = {"torn": whole[:-20], "deep": len(header).to_bytes(8, "little") + header}
    last.unlink()
    if damage != "gone":
        last.write_bytes(content[damage])
    (place.folder / "train.csv").write_text("text,label\na,x\nb,y\n")
    (place.folder / "new.csv").write_text("text\na thing\n")
    label = ("predict", "train.csv", "new.csv", "--text", "text", "--label", "label")
    for command in ((*label, "--from", "run"), ("export", "run", "meta-prototypes", "ad")):
        told = place.refusal(*command)
        assert f"remove {last.with_name('finished.json')} and run the experiment again" in told
    assert not Path("ad").exists()
    last.with_name("finished.json").unlink()  # as the sentence says
    assert place.icl("run", run, "--out", "run", "--limit", 1)[0] == 0
    assert place.icl(*label, "--from", "run")[0] == 0


def test_a_start_that_fails_leaves_the_configuration_with_its_results(
    run: Path, place: Place
) -> None:
    names = ("config.yaml", "run.json", "episodes.jsonl")
    before = [Path("run", name).read_bytes() for name in names]
    broken = place.folder / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "config.json").write_text("{")
    told = place.refusal("run", run, "--out", "run", "--set", f"model.name={broken}")
    assert "cannot be loaded" in told
    assert [Path("run", name).read_bytes() for name in names] == before
    place.refusal("run", run, "--out", "new", "--set", f"model.name={broken}")
    assert Path("new/config.yaml").exists()  # and can be resumed when the model is mended


def test_embeddings_that_cannot_be_read_are_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key, vector = tmp_path / "e.vectors", content_key("a"), np.ones((1, 4), np.float32)
    EmbeddingStore(path, 4).write([key], vector, np.array([2]))

    def shut(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    store = EmbeddingStore(path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", shut)
        told = r"e\.vectors \(Permission denied\); this run keeps them"
        with pytest.warns(UserWarning, match=told):
            assert not store.read([key])[0].any()
    store.write([key], vector, np.array([2]))
    assert store.read([key])[0].all()


def test_a_machine_without_homes_is_told_which_variable_helps(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ICL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    config = place.write("MODEL", "packaged:gemma-3-270m")
    assert "name one in ICL_CACHE" in place.refusal("run", config)
