"""Faults around `icl run`: what the user sees, and that nothing recorded is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch

from icl.runs import runner as runner_module
from icl.runs.folder import RunFolder
from icl.runs.store import RecordStore, same_outcomes
from tests import forked
from tests.faults.conftest import mount
from tests.place import Place

QUICK = """\
learners:
  majority: {method: majority}
  prototypes: {method: prototypes}
"""


def quick(place: Place, learners: str = QUICK) -> Path:
    """Write the experiment with two quick learners, or others."""
    path = place.write()
    text = path.read_text("utf-8")
    path.write_text(text[: text.index("learners:")] + learners, "utf-8")
    return path


def test_a_second_run_on_a_folder_in_use_is_refused(place: Place) -> None:
    with RunFolder(place.folder / "run").locked():
        assert "Another run is at work in run" in place.refusal("run", quick(place), "--out", "run")


def test_a_run_folder_copied_elsewhere_goes_on(place: Place) -> None:
    config = quick(place)
    assert place.icl("run", config, "--out", "here", "--limit", 1)[0] == 0
    before = RecordStore(Path("here")).read()
    shutil.copytree("here", "there")
    shutil.rmtree("here")
    assert place.icl("run", config, "--out", "there")[0] == 0
    after = RecordStore(Path("there")).read()
    assert after[: len(before)] == before
    assert len(after) == 3 * len(before)


def test_a_run_folder_that_may_only_be_read_is_refused_and_can_be_reported_elsewhere(
    place: Place, small_disk: Path
) -> None:
    config, run = quick(place), small_disk / "run"
    assert place.icl("run", config, "--out", run, "--limit", 1)[0] == 0
    before = (run / "records.jsonl").read_bytes()
    mount(small_disk, "remount", "ro")
    told = place.refusal("run", config, "--out", run)
    assert "Cannot write the run's folder" in told
    assert "Read-only file system" in told
    assert (run / "records.jsonl").read_bytes() == before
    mount(small_disk, "remount", "rw")
    assert place.icl("run", config, "--out", run)[0] == 0


def test_a_disk_that_fills_up_keeps_all_records_and_goes_on_when_there_is_room(
    place: Place, small_disk: Path
) -> None:
    config, run = quick(place), small_disk / "run"
    assert place.icl("run", config, "--out", place.folder / "whole")[0] == 0
    mount(small_disk, "remount", "size=40k")
    told = place.refusal("run", config, "--out", run)
    assert "No space left on device" in told
    kept = RecordStore(run).read()
    mount(small_disk, "remount", "size=4m")
    assert place.icl("run", config, "--out", run)[0] == 0
    after = RecordStore(run).read()
    assert after[: len(kept)] == kept
    assert same_outcomes(after, RecordStore(place.folder / "whole").read())


def test_a_clock_that_goes_back_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(place)
    assert place.icl("run", config, "--out", "run", "--limit", 1)[0] == 0
    before = RecordStore(Path("run")).read()
    for path in Path("run").rglob("*"):
        os.utime(path, (4e9, 4e9))  # written in the future
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 1e8)
    assert place.icl("run", config, "--out", "run")[0] == 0
    after = RecordStore(Path("run")).read()
    assert after[: len(before)] == before
    assert all(record.cost.seconds >= 0 for record in after)


@pytest.mark.parametrize("damage", ["truncated", "header", "config"])
def test_a_damaged_model_is_one_sentence(place: Place, damage: str) -> None:
    model = place.folder / "damaged"
    shutil.copytree(place.folder / "model", model)
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "truncated":
        weights.write_bytes(content[: len(content) // 2])
    elif damage == "header":
        content[20] ^= 0xFF
        weights.write_bytes(content)
    else:
        (model / "config.json").write_text('{"model_type": ')
    config = quick(place)
    config.write_text(config.read_text().replace(f"{place.folder}/model", str(model)))
    told = place.refusal("run", config)
    assert str(model) in told
    assert "cannot be loaded" in told


def test_a_damaged_records_file_costs_only_the_damaged_lines(place: Place) -> None:
    config = quick(place)
    assert place.icl("run", config, "--out", "run")[0] == 0
    path = Path("run/records.jsonl")
    whole = RecordStore(Path("run")).read()
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3][:50] + b"\0" * 20 + lines[3][70:]
    path.write_bytes(b"\n".join(lines))
    code, _, err = place.icl("run", config, "--out", "run")
    assert code == 0
    assert err.count("skipped 1 damaged line(s) (4)") == 1
    with pytest.warns(UserWarning):
        assert same_outcomes(whole, RecordStore(Path("run")).read())


def test_too_little_memory_for_one_prompt_is_one_sentence_and_keeps_the_rest(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, real, calls = quick(place), runner_module.judge, []

    def judge(*arguments, **options):
        calls.append(1)
        if len(calls) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(*arguments, **options)

    monkeypatch.setattr(runner_module, "judge", judge)
    told = place.refusal("run", config, "--out", "run")
    assert "failed on episode" in told
    assert "out of memory" in told
    assert len(RecordStore(Path("run")).read()) == 4
    monkeypatch.setattr(runner_module, "judge", real)
    assert place.icl("run", config, "--out", "run")[0] == 0


def test_a_loss_that_is_not_a_number_names_the_step_and_keeps_the_records(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icl.learners.gradient.meta_learner import LoraMetaLearner

    real = LoraMetaLearner.meta_loss

    def diverging(self, episodes):
        loss, metrics = real(self, episodes)
        return loss * torch.nan, metrics

    monkeypatch.setattr(LoraMetaLearner, "meta_loss", diverging)
    learners = QUICK + (
        "  fomaml: {method: fomaml, inner_steps: 1,"
        " training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}}\n"
    )
    told = place.refusal("run", quick(place, learners), "--out", "run")
    assert "diverged at step 0" in told
    assert {r.learner for r in RecordStore(Path("run")).read()} == {"majority", "prototypes"}


def test_ctrl_c_finishes_the_episode_and_tells_the_command_to_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    config, real, calls = quick(place), runner_module.judge, []

    def judge(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(runner_module, "judge", judge)
    code, _, err = place.icl("run", config, "--out", "run")
    assert code == 130
    assert "finishing this step" in err
    assert f"To go on: icl run {config} --out run" in err
    assert len(RecordStore(Path("run")).read()) == 3
    assert place.icl("run", config, "--out", "run")[0] == 0


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_scheduler_that_ends_a_run_before_it_has_begun_hears_the_same(
    form: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from icl.experiments import episodes

    def slow(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(episodes, "load_family", slow)
    config = quick(place)
    code, _, err = place.icl("run", config, "--out", "run", "--log-format", form)
    assert code == 130
    again = f"icl run {config} --out run --log-format {form}"
    if form == "text":
        assert err == f"icl: stopped; what was finished is kept. To go on: {again}\n"
    else:
        assert json.loads(err) == {"event": "stopped", "command": again}


def test_memory_that_runs_out_anywhere_is_one_sentence(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icl.experiments import experiment

    def hungry(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(experiment, "write_outcome", hungry)
    config = quick(place)
    assert "Memory ran out; what was finished is kept" in place.refusal("run", config)
    code, _, err = place.icl("run", config, "--log-format", "json")
    assert code == 2
    assert "Memory ran out" in json.loads(err.splitlines()[-1])["message"]


def test_every_line_is_json_where_that_was_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    learners = (
        "learners:\n  meta-prototypes: {method: meta-prototypes, training: {steps: 8,"
        " meta_batch: 2, shots: 2, queries: 3, checkpoint_every: 1}}\n"
    )
    config, real = quick(place, learners), runner_module.judge
    monkeypatch.setattr(
        runner_module,
        "judge",
        lambda *a, **o: os.kill(os.getpid(), signal.SIGINT) or real(*a, **o),
    )
    assert place.icl("run", config, "--out", "run")[0] == 130
    newest = max(Path("run").rglob("checkpoint-*"))
    newest.write_bytes(newest.read_bytes()[:50])
    newest.with_name("finished.json").unlink()
    code, _, err = place.icl("run", config, "--out", "run", "--log-format", "json")
    assert code == 130
    events = [json.loads(line) for line in err.splitlines()]
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert notes == [
        f"the checkpoint {newest.name} is damaged; using the one before.",
        "finishing this step; press Ctrl-C again to stop at once.",
    ]
    assert events[-1]["event"] == "stopped"


def test_faults_and_warnings_before_the_start_are_json_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = place.icl("resume", "nowhere", "--log-format", "json")
    assert code == 2
    assert "is not a run's folder" in json.loads(err)["message"]
    assert "is not a run's folder" in place.refusal("resume", "nowhere")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    code, _, err = place.icl("run", quick(place), "--out", "run", "--log-format", "json")
    assert code == 0
    first, *_ = [json.loads(line) for line in err.splitlines()]
    assert first["event"] == "warning"
    assert "'bf16' has no effect" in first["message"]


def test_the_report_tells_the_whole_command(place: Place) -> None:
    config = quick(place)
    out = place.folder / "a run"
    assert place.icl("run", config, "--out", out, "--limit", 1, "--set", "seed=3")[0] == 0
    page = (out / "report.html").read_text("utf-8")
    assert f"icl run {config} --out &#39;{out}&#39; --limit 1 --set seed=3" in page


def test_progress_as_json_is_one_event_a_line(place: Place) -> None:
    config = quick(place)
    code, _, err = place.icl("run", config, "--out", "run", "--log-format", "json")
    assert code == 0
    events = [json.loads(line) for line in err.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "progress"
    assert kinds[-2:] == ["finished", "report"]
    assert events[-2]["share"] == 1.0
    assert {"share", "seconds", "seconds_left", "rate", "unit", "loss", "doing"} <= events[0].keys()
    code, _, err = place.icl("run", "no-such-experiment", "--log-format", "json")
    assert code == 2
    (event,) = [json.loads(line) for line in err.splitlines()]
    assert event["event"] == "error"
    assert "no-such-experiment" in event["message"]


def test_processes_run_from_the_command_line_and_a_server_refuses_them(place: Place) -> None:
    server = "  name: x\n  server: {url: 'http://127.0.0.1:1'}"
    config = quick(place, "learners:\n  zero-shot: {method: zero-shot}\n")
    text = config.read_text()
    start = text.index("model:")
    config.write_text(text[:start] + "model:\n" + server + text[text.index("\ntasks:") :])
    assert "one process" in place.refusal("run", config, "--processes", 2)


@pytest.mark.parametrize("launcher", ["icl", "torchrun", "accelerate"])
def test_launchers_give_the_records_of_one_process(
    launcher: str, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Run from a copy of the package: an edit in between would change the keys."""
    import sys

    import icl

    source = tmp_path_factory.mktemp("source")
    shutil.copytree(Path(icl.__file__).parent, source / "icl")
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    config = quick(place, "learners:\n  prototypes: {method: prototypes}\n")
    python, run = sys.executable, ["-m", "icl", "run", str(config), "--limit", "1"]
    command = {
        "icl": [python, *run, "--processes", "2"],
        "torchrun": [python, "-m", "torch.distributed.run", "--nproc-per-node", "2",
                     "--master-port", forked.free_port(), *run],
        "accelerate": [python, "-m", "accelerate.commands.launch", "--multi_gpu",
                       "--num_processes", "2", "--main_process_port", forked.free_port(), *run],
    }[launcher]  # fmt: skip
    for words, out in ((command, "many"), ([python, *run], "one")):
        done = subprocess.run([*words, "--out", out], env=environment, capture_output=True,
                              text=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Report:") == 1
    many, one = RecordStore(Path("many")).read(), RecordStore(Path("one")).read()
    assert len(one) == 4
    assert same_outcomes(one, many)
