"""`icl check gradients` and `icl export` as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from icl.cli.main import main
from tests import tiny
from tests.cli.test_run import EXPERIMENT, FAMILY, LABELS, LANGUAGES


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tiny.save(tmp_path / "model")
    for language in LANGUAGES:
        (tmp_path / "data" / language).mkdir(parents=True)
        rows = [
            {"id": f"{language}{label}{i}", "label": label, "text": f"{label} {i} {language}"}
            for label in LABELS
            for i in range(6)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "data" / language / "all.jsonl").write_text(text)
    (tmp_path / "things.yaml").write_text(FAMILY)
    text = EXPERIMENT.replace("MODEL", str(tmp_path / "model"))
    text = text.replace("FAMILY", str(tmp_path / "things.yaml"))
    text = text.replace("DATA", str(tmp_path / "data"))
    head = text[: text.index("learners:")]
    path = tmp_path / "experiment.yaml"
    path.write_text(
        head
        + "learners:\n"
        + "  majority: {method: majority}\n"
        + "  maml: {method: maml, inner_steps: 1,"
        + " training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}}\n"
    )
    return path


def icl(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["icl", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_check_gradients_says_that_all_is_right(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert icl("check", "gradients", config, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "All gradients are right" in out
    assert "checkpointing" in out
    assert "plain products for second derivatives" in out


def test_check_gradients_needs_a_gradient_learner(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text()
    config.write_text(text[: text.index("  maml:")])
    assert icl("check", "gradients", config, monkeypatch=monkeypatch) == 2
    assert "no gradient meta-learner" in capsys.readouterr().err


def test_a_run_is_exported_and_loaded_without_icl(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, out = tmp_path / "run", tmp_path / "adapter"
    assert icl("run", config, "--out", run, "--limit", 1, monkeypatch=monkeypatch) == 0
    assert icl("export", run, "maml", out, monkeypatch=monkeypatch) == 0
    code = (
        "import sys; from peft import PeftModel; from transformers import AutoModelForCausalLM;"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1]);"
        "m = PeftModel.from_pretrained(m, sys.argv[2]);"
        "print(max(float(v.abs().max()) for n, v in m.named_parameters() if 'lora_B' in n))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model"), str(out)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert float(done.stdout.split()[-1]) > 0
    assert icl("export", run, "maml", out, monkeypatch=monkeypatch) == 2
    assert "not empty" in capsys.readouterr().err
