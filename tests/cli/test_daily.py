"""What one does from day to day: look before running, go on, set a field, ask what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from icl.models.loading import load as loading
from icl.runs.folder import RunFolder
from tests.place import Place, must_not_load

SMALL = """\
  prototypes: {method: prototypes}
  linear-probe: {method: linear-probe}
  lora: {method: lora, steps: 2}
"""


def records(folder: Path) -> int:
    return sum(1 for _ in RunFolder(folder).store.scan())


def test_a_dry_run_runs_nothing_and_counts_everything(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = place.write(SMALL, "")
    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    code, said, err = place.icl("run", path, "--dry-run", "--out", "run")
    assert code == 0, err
    assert not (place.folder / "run").exists()
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert lines["in-context"][1:3] == ["12", "0"]  # 3 indices x 2 settings x 2 shots
    assert lines["fomaml"][3] == "2"
    assert lines["majority"][4] == "0"
    assert "Nothing was run" in said
    assert "43.7k parameters" in said


def test_a_dry_run_takes_times_from_what_was_measured(place: Place) -> None:
    path = place.write(SMALL, "")
    assert place.icl("run", path, "--out", "run", "--limit", 1)[0] == 0
    taken = [r for r in RunFolder(place.folder / "run").store.scan() if r.learner == "in-context"]
    code, said, _ = place.icl("run", path, "--dry-run", "--out", "run")
    assert code == 0
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert lines["in-context"][1:3] == ["12", str(len(taken))]
    assert said.count("(measured here)") == 4
    from icl.experiments.config import load_config
    from icl.experiments.forecast import forecast

    plan = forecast(load_config(path), place.folder / "run")
    line = next(line for line in plan.lines if line.learner == "in-context")
    assert line.seconds == pytest.approx((12 - 4) * sum(r.cost.seconds for r in taken) / 4)
    changed = place.icl("run", path, "--dry-run", "--out", "run", "--set",
                        "learners.in-context.calibration=contextual")[1]  # fmt: skip
    assert changed.count("(measured here)") == 3


def test_a_run_goes_on_from_its_folder_alone(place: Place) -> None:
    path = place.write(SMALL, "")
    assert place.icl("run", path, "--out", "run", "--limit", 1)[0] == 0
    before = records(place.folder / "run")
    path.unlink()
    code, said, err = place.icl("resume", "run")
    assert code == 0, err
    assert records(place.folder / "run") == 3 * before
    assert "Report" in said
    assert "no config.yaml" in place.refusal("resume", "data")


def test_a_field_set_on_the_command_line_is_run_and_kept(place: Place) -> None:
    path = place.write(SMALL, "")
    sets = ("--set", "episodes.count=1", "--set", "episodes.shots=[2]")
    assert place.icl("run", path, "--out", "run", *sets)[0] == 0
    assert records(place.folder / "run") == 4 * 2
    config = (place.folder / "run" / "config.yaml").read_text()
    assert "count: 1\n" in config
    said = place.refusal("run", path, "--set", "episodes.cuont=1")
    assert "Did you mean 'count'" in said


def test_doctor_names_what_is_there_and_how_to_mend_the_rest(place: Place) -> None:
    code, said, _ = place.icl("doctor")
    assert code in (0, 1)
    for area in ("python", "devices", "attention", "extras", "caches", "models"):
        assert f"\n{area}\n" in f"\n{said}"
    assert "math kernel on" in said
    lines = said.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        assert ("lacks" in line) == ("pip install 'icl[" in after and "mend:" in after)


def test_doctor_says_when_a_cache_cannot_be_written(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place.folder / "file").write_text("")
    monkeypatch.setenv("ICL_CACHE", str(place.folder / "file" / "icl"))
    code, said, _ = place.icl("doctor")
    assert code == 1
    assert f"BAD   {place.folder / 'file' / 'icl'}: cannot be written" in said
    assert "mend: export ICL_CACHE=" in said


COMMANDS = ["run", "resume", "report", "prompts", "predict", "methods", "doctor", "merge", "export",
            "tasks", "episodes", "check"]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_loading_anything_heavy(command: str) -> None:
    code = (
        "import sys; sys.argv = ['icl', sys.argv[1], '--help']\n"
        "from icl.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
