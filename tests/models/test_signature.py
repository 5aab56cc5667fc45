"""A signature changes whenever the model may have, and says so without loading it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from icl.models.signature import model_signature


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def _signature(folder: Path, dtype: str = "float32") -> str | None:
    return model_signature(str(folder), None, dtype)


def test_an_untouched_directory_keeps_its_signature(folder: Path) -> None:
    assert _signature(folder) is not None
    assert _signature(folder) == _signature(folder)


def test_another_dtype_is_another_model(folder: Path) -> None:
    assert _signature(folder) != _signature(folder, "bfloat16")


def test_rewritten_weights_of_the_same_size_change_the_signature(folder: Path) -> None:
    before = _signature(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(1, 1))
    assert _signature(folder) != before


def test_a_new_file_changes_the_signature(folder: Path) -> None:
    before = _signature(folder)
    (folder / "adapter.safetensors").touch()
    assert _signature(folder) != before


def test_a_hub_model_is_known_by_the_commit_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    found = {"path": str(tmp_path / "snapshots" / "abc" / "config.json")}
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *_, **__: found["path"], raising=True
    )
    first = model_signature("some/model", None, "float32")
    assert first is not None
    found["path"] = str(tmp_path / "snapshots" / "def" / "config.json")
    assert model_signature("some/model", None, "float32") != first


@pytest.mark.parametrize("name", ["nobody/never-loaded-here", "not a hub id: at all"])
def test_what_was_never_loaded_has_no_signature(name: str) -> None:
    assert model_signature(name, None, "float32") is None
