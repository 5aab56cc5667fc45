"""`icl check gradients` and `icl export` as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.place import EXPERIMENT, run_icl, write_all

TEXT = (
    EXPERIMENT[: EXPERIMENT.index("learners:")]
    + """\
learners:
  majority: {method: majority}
  maml:
    method: maml
    inner_steps: 1
    training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}
"""
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_all(tmp_path, TEXT)


def test_check_gradients_says_that_all_is_right(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert run_icl(monkeypatch, "check", "gradients", config) == 0
    out = capsys.readouterr().out
    assert "All gradients are right" in out
    assert "checkpointing" in out
    assert "plain products for second derivatives" in out


def test_check_gradients_needs_a_gradient_learner(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text()
    config.write_text(text[: text.index("  maml:")])
    assert run_icl(monkeypatch, "check", "gradients", config) == 2
    assert "no gradient meta-learner" in capsys.readouterr().err


def test_a_run_is_exported_and_loaded_without_icl(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, out = tmp_path / "run", tmp_path / "adapter"
    assert run_icl(monkeypatch, "run", config, "--out", run, "--limit", 1) == 0
    assert run_icl(monkeypatch, "export", run, "maml", out) == 0
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
    assert run_icl(monkeypatch, "export", run, "maml", out) == 2
    assert "not empty" in capsys.readouterr().err
