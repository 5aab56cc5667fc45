"""Files from elsewhere: run folders, models, data and definitions that somebody else has made."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from icl.errors import IclError
from icl.exchange.adapter import export_learner
from icl.exchange.merge import merge_adapter
from icl.exchange.trained import find_learner
from icl.models.loading.load import load_backbone
from icl.processes import launch
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore
from icl.tasks.sources.base import Wanted
from icl.tasks.sources.hub import hub_rows
from icl.tasks.sources.lm_eval import LmEvalSource
from icl.tools.yamlfile import read_yaml
from tests import tiny
from tests.place import FAMILY, Place

LEARNERS = """\
learners:
  prototypes: {method: prototypes}
  fomaml:
    method: fomaml
    inner_steps: 1
    training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}
"""
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


def lm_eval(path: Path) -> LmEvalSource:
    return LmEvalSource(type="lm-eval", root=path.parent, file=path.name)


@pytest.fixture
def run(place: Place) -> Path:
    path = place.write()
    text = path.read_text("utf-8")
    path.write_text(text[: text.index("learners:")] + LEARNERS, "utf-8")
    assert place.icl("run", path, "--out", "run", "--limit", 1)[0] == 0
    return Path("run")


def change(run: Path, name: str, **values: object) -> None:
    """Change a learner's row in a run's roster."""
    roster = json.loads((run / "run.json").read_text())
    for row in roster["learners"]:
        if row["name"] == name:
            row.update(values)
    (run / "run.json").write_text(json.dumps(roster))


def test_a_roster_cannot_name_code(run: Path) -> None:
    change(run, "prototypes", method="evil.py:X")
    assert find_learner(run, "prototypes").method == "prototypes"


@pytest.mark.parametrize("folder", ["../elsewhere", "/tmp/x", "meta/../../x", "meta/x"])
def test_a_roster_cannot_lead_to_another_folder(folder: str, run: Path) -> None:
    change(run, "fomaml", folder=folder)
    with pytest.raises(IclError, match=r"run\.json is damaged"):
        export_learner(run, "fomaml", run / "out")


@pytest.mark.parametrize(
    "entry", ["records.jsonl", "records.1.jsonl", ".lock", "meta", "plots", "config.yaml"]
)
def test_a_run_folder_with_a_link_in_it_is_not_written(
    entry: str,
    run: Path,
    place: Place,
) -> None:
    victim = place.folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious, without an end of line")
    path = run / entry
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(victim / "file" if "." in entry else victim)
    told = place.refusal("run", place.folder / "tiny.yaml", "--out", run)
    assert f"{entry} is a link" in told
    assert (victim / "file").read_text() == "precious, without an end of line"


def test_names_of_aliases_cannot_fill_the_memory_through_a_run_folder_or_a_definition(
    run: Path,
    place: Place,
) -> None:
    (run / "config.yaml").write_text(BOMB)
    assert "use fewer aliases" in place.refusal("report", run)
    bomb = place.folder / "bomb.yaml"
    bomb.write_text("? " + BOMB.replace("\n", "\n  ") + "\n: 1\n")
    with pytest.raises(IclError, match="this cannot be a key"):
        read_yaml(bomb)
    bomb.write_text(BOMB)
    with pytest.raises(IclError, match="use fewer aliases"):
        list(lm_eval(bomb).rows(Wanted("bomb", "en", "train")))


def test_metric_names_of_records_are_shown_not_obeyed(
    run: Path,
    place: Place,
) -> None:
    evil = 'x"><meta http-equiv="refresh" content="0;url=https://evil.example/"><script>'
    lines = [json.loads(x) for x in (run / "records.jsonl").read_text().splitlines()]
    for line in lines:
        queries = len(line["query_ids"])
        line |= {"labels": [], "ways": 0, "texts": ["t"] * queries, "references": ["r"] * queries}
        line |= {"scores": {evil: [0.5] * queries}}
        line |= {"log_probs": [], "predictions": [], "gold": [], "schema_version": 2}
        del line["check"]
    (run / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert place.icl("report", run)[0] == 0
    page = (run / "report.html").read_text()
    assert "evil.example" in page
    assert '"><meta' not in page
    assert "<script>" not in page


@pytest.mark.parametrize("value", ["NaN", "1e999", "-1", '"x"'])
def test_a_record_with_a_cost_that_is_no_number_is_damaged(value: str, run: Path) -> None:
    line = (run / "records.jsonl").read_text().splitlines()[0]
    before, _, after = line.partition('"seconds":')
    with pytest.raises(ValueError, match=r"cost|not a record"):
        EpisodeRecord.from_json(f'{before}"seconds":{value}{after[after.index(",") :]}')


def test_a_line_of_records_that_is_nested_too_deeply_is_damaged(run: Path) -> None:
    before = RecordStore(run).read()
    with (run / "records.jsonl").open("a") as file:
        file.write("[" * 100_000 + "\n")
    with pytest.warns(UserWarning, match="damaged line"):
        assert RecordStore(run).read() == before


@pytest.mark.parametrize("shard", ["weights.bin", "../outside.safetensors", "/tmp/x.safetensors"])
def test_an_index_of_weights_names_safetensors_beside_it_or_is_refused(
    shard: str, tmp_path: Path
) -> None:
    import torch

    folder = tiny.save(tmp_path / "model")
    tensors = tiny.model().state_dict()
    torch.save(tensors, folder / "weights.bin")
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, shard)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for load in (lambda: load_backbone(str(folder)), lambda: merge_adapter_of(folder, tmp_path)):
        with pytest.raises(IclError, match="not safetensors files beside it"):
            load()


def merge_adapter_of(base: Path, folder: Path) -> None:
    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    merge_adapter(str(base), str(adapter), folder / "merged")


CODE = """\
from pathlib import Path
from transformers import PretrainedConfig

Path({marker!r}).touch()

class Own(PretrainedConfig):
    model_type = "own"
"""


def test_no_command_asks_whether_to_run_a_models_own_code(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """transformers asks on the terminal where it is not told; a script answers yes."""
    folder, marker = place.folder / "own", place.folder / "ran"
    shutil.copytree(place.folder / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(CODE.format(marker=str(marker)))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    path = place.write("{name: MODEL}", f"{{name: {folder}}}")
    assert place.icl("run", path, "--dry-run")[0] == 0
    place.refusal("run", path)
    with pytest.raises(IclError):
        merge_adapter_of(folder, place.folder)
    assert not marker.exists()
    with pytest.warns(UserWarning, match=f"'{folder}' runs"), pytest.raises(IclError):
        load_backbone(str(folder), trust_remote_code=True)
    assert marker.exists()


def test_pickles_are_no_data() -> None:
    with pytest.raises(IclError, match="reads pickles"):
        list(hub_rows("pandas", split="train", files="x.pkl"))


@pytest.mark.parametrize("files", ["/etc/passwd", "../outside.jsonl", "a/../../outside.jsonl"])
def test_a_hub_source_cannot_name_files_outside(
    files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside.jsonl").write_text('{"text": "secret"}\n')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(IclError, match="lies outside the data directory"):
        list(hub_rows("json", split="train", files=files))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("include: ../outside.yaml", "outside the data directory"),
        ("dataset_kwargs: {data_files: ../outside.jsonl}", "outside the data directory"),
        ("dataset_kwargs: {cache_dir: /tmp/written}", "has cache_dir; only data_files"),
        ("dataset_kwargs: {split: test}", "has split; only data_files"),
    ],
)
def test_an_lm_eval_task_stays_in_its_folder(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("a: 1\n")
    (tmp_path / "outside.jsonl").write_text('{"q": "secret"}\n')
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "task.yaml"
    path.write_text(
        "output_type: multiple_choice\ndataset_path: json\ntest_split: train\n"
        f"doc_to_text: q\ndoc_to_choice: [a, b]\ndoc_to_target: 0\n{line}\n"
    )
    with pytest.raises(IclError, match=told):
        list(lm_eval(path).rows(Wanted("task", "en", "test")))


def test_a_learners_name_cannot_move_the_cursor(place: Place) -> None:
    path = place.write("majority: {method: majority}", '"a\\e[2J": {method: majority}')
    assert "cannot name a learner" in place.refusal("run", path)


def test_texts_of_data_are_shown_on_the_terminal_and_not_obeyed(
    place: Place,
) -> None:
    folder = place.folder / "evil"
    for language in ("aa", "bb", "cc", "dd"):
        (folder / language).mkdir(parents=True)
        row = {"id": 1, "label": "animal", "text": "\x1b]0;owned\x07 cat"}
        (folder / language / "all.jsonl").write_text(json.dumps(row) + "\n")
    place.write(family=FAMILY)
    code, out, _ = place.icl(
        "tasks", "show", place.folder / "things.yaml", "--data", folder, "--language", "cc"
    )
    assert code == 0
    assert "]0;owned" in out
    assert "\x1b" not in out


def test_a_message_is_one_line_whatever_files_are_called(place: Place) -> None:
    told = place.refusal("run", "no\nsuch\x1b[2J")
    assert "\x1b" not in told


@pytest.mark.parametrize(
    "assignment",
    [
        "model.server.key_env=sk-PASTED-0000000001",
        "model.server.api_key=sk-PASTED-0000000001",
        "model.server.url=http://user:sk-PASTED-0000000001@host/v1",
        "model.name=http://user:sk-PASTED-0000000001@host/v1",
    ],
)
def test_an_option_with_a_secret_in_it_is_not_repeated(
    assignment: str,
    place: Place,
) -> None:
    told = place.refusal("run", place.write(), "--set", assignment)
    assert "sk-PASTED" not in told


def test_processes_import_nothing_from_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "typer.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "_SAFE", ["-P"] if sys.version_info >= (3, 11) else [])
    process = launch._start(["--version"], 0, 1, 1, "")
    assert process.wait(60) == 0
    assert not marker.exists()
