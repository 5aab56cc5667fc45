"""A model's identity is its content: all that decides a number, nothing that does not."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import normalizers

from icl.errors import IclError
from icl.models.adapters.peft_adapter import adapter_digest
from icl.models.backbone import Backbone
from icl.models.loading import filehash
from icl.models.loading.identity import memory_identity, model_identity
from icl.models.loading.load import load_backbone
from icl.tools.cache import sha256_file
from tests import tiny, tiny_encoders

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny.save(tmp_path_factory.mktemp("identity"))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a model's directory, and a memory of hashes that keeps files of any size."""
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(filehash, "_SMALL", 0)
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def settled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory as if it had been written long ago."""
    monkeypatch.setattr(filehash, "_SETTLED", -(10**12))
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are read."""
    names: list[str] = []

    def watched(path: Path) -> str:
        names.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(filehash, "sha256_file", watched)
    return names


def set_json(name: str, **fields: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def one_row(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.embed_tokens.weight"][77] += 0.01
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def pooling(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Pooling"}]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")


DECIDES: dict[str, Callable[[Path], object]] = {
    "rope": set_json("config.json", rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
    "activation": set_json("config.json", hidden_act="gelu"),
    "generation": set_json("generation_config.json", eos_token_id=5),
    "normaliser": set_json(TOKENIZER, normalizer={"type": "Lowercase"}),
    "template": lambda f: (f / "chat_template.jinja").write_text("{{ bos_token }}"),
    "no template": lambda f: (f / "chat_template.jinja").unlink(),
    "one row": one_row,
    "pooling": pooling,
}
IDLE: dict[str, Callable[[Path], object]] = {
    "card": lambda f: (f / "README.md").write_text("# A model"),
    "git": lambda f: (f / ".gitattributes").write_text("*.bin filter=lfs"),
    "fetched": lambda f: (f / ".cache").mkdir(),
    "pickles": lambda f: (f / "pytorch_model.bin").write_bytes(b"never read"),
    "checkpoint": lambda f: shutil.copytree(f, f.parent / "c") and shutil.move(
        f.parent / "c", f / "checkpoint-5"
    ),
    "times": lambda f: os.utime(f / WEIGHTS),
}  # fmt: skip


@pytest.mark.parametrize("change", DECIDES)
def test_whatever_decides_a_number_changes_the_identity(change: str, folder: Path) -> None:
    before = model_identity(str(folder))
    DECIDES[change](folder)
    assert None is not before != model_identity(str(folder))


@pytest.mark.parametrize("change", IDLE)
def test_what_decides_nothing_leaves_the_identity(change: str, folder: Path) -> None:
    before = model_identity(str(folder))
    IDLE[change](folder)
    assert None is not before == model_identity(str(folder))


def test_the_place_and_its_name_do_not_enter(folder: Path) -> None:
    before = model_identity(str(folder))
    copied = shutil.copytree(folder, folder.parent / "copied")
    assert model_identity(str(copied)) == before
    assert model_identity(str(folder.rename(folder.parent / "moved"))) == before


def test_another_dtype_another_model(folder: Path) -> None:
    found = {model_identity(str(folder), dtype=d) for d in ("float32", "bfloat16", "float16")}
    found |= {model_identity(str(folder), quantise=q) for q in ("4bit", "8bit")}
    assert len(found) == 5


def test_an_untouched_directory_is_read_once(settled: Path, read: list[str]) -> None:
    before = model_identity(str(settled))
    assert WEIGHTS in read
    read.clear()
    assert model_identity(str(settled)) == before
    assert load_backbone(str(settled), device="cpu").identity == before
    assert not read


def test_a_file_that_was_touched_is_read_again_and_is_the_same(
    settled: Path, read: list[str]
) -> None:
    before = model_identity(str(settled))
    read.clear()
    (settled / WEIGHTS).touch()
    assert model_identity(str(settled)) == before
    assert read == [WEIGHTS]


def test_a_byte_changed_behind_a_restored_size_and_time_is_seen(settled: Path) -> None:
    before, weights = model_identity(str(settled)), settled / WEIGHTS
    times, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights.stat().st_mtime_ns == times.st_mtime_ns
    assert model_identity(str(settled)) != before


def test_a_file_that_was_just_written_is_not_remembered(folder: Path, read: list[str]) -> None:
    """It may be written again within the same tick of the clock."""
    (folder / WEIGHTS).touch()
    first = model_identity(str(folder))
    read.clear()
    assert model_identity(str(folder)) == first
    assert WEIGHTS in read


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"stamp": 3}', b"\xff", None])
def test_a_damaged_memory_is_ignored(
    content: bytes | None, settled: Path, read: list[str], tmp_path: Path
) -> None:
    before = model_identity(str(settled))
    notes = list((tmp_path / "cache" / "hashes").iterdir())
    assert {note.suffix for note in notes} == {".json"}
    for note in notes:
        cut = note.read_bytes().replace(b'"sha256": "', b'"sha256": "x')
        note.write_bytes(cut if content is None else content)
    read.clear()
    assert model_identity(str(settled)) == before
    assert WEIGHTS in read


def test_a_memory_that_cannot_be_written_costs_time_only(
    settled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_identity(str(settled))
    (tmp_path / "file").touch()
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "file"))
    assert model_identity(str(settled)) == before


def test_a_file_that_is_written_all_the_while_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(path: Path) -> str:
        digest = sha256_file(path)
        with path.open("ab") as file:
            file.write(b" ")
        return digest

    monkeypatch.setattr(filehash, "sha256_file", written)
    with pytest.raises(IclError, match="is being written"):
        model_identity(str(folder))


@pytest.mark.parametrize("save", [tiny.save, tiny_encoders.save])
def test_it_is_told_before_the_model_is_loaded(
    save: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = str(save(tmp_path))
    for dtype in ("float32", "bfloat16"):
        backbone = load_backbone(folder, device="cpu", dtype=dtype)
        assert backbone.identity == model_identity(folder, dtype=dtype)


def test_files_that_change_after_loading_do_not_name_what_lies_in_memory(folder: Path) -> None:
    kept = shutil.copytree(folder, folder.parent / "kept")
    backbone = load_backbone(str(folder), device="cpu")
    one_row(folder)
    assert backbone.identity not in {model_identity(str(folder)), model_identity(str(kept))}


@pytest.mark.parametrize("change", ["weights", "config", "template"])
def test_a_loaded_model_that_is_changed_in_memory_is_another(change: str, folder: Path) -> None:
    backbone = load_backbone(str(folder), device="cpu")
    if change == "weights":
        with torch.no_grad():
            next(iter(backbone.model.parameters()))[3, 7] += 1
    elif change == "config":
        backbone.model.config.hidden_act = "gelu"
    else:
        backbone.tokenizer.chat_template = "{{ bos_token }}"
    assert backbone.identity != model_identity(str(folder))


def in_memory() -> tuple[Any, Any]:
    return tiny.model(), copy.deepcopy(tiny.tokenizer())


def _cast(model: Any, _: Any) -> None:
    model.to(torch.bfloat16)


def _value(model: Any, _: Any) -> None:
    model.model.embed_tokens.weight.data[-1, -1] += 1e-3


def _lower(_: Any, tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


CHANGES: dict[str, Callable[[Any, Any], object]] = {
    "one value": _value,
    "dtype": _cast,
    "activation": lambda m, _: setattr(m.config, "hidden_act", "gelu"),
    "normaliser": _lower,
    "template": lambda _, t: setattr(t, "chat_template", "{{ bos_token }}"),
    "special token": lambda _, t: setattr(t, "eos_token", "<s>"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_given_as_objects_is_known_by_all_of_its_content(change: str) -> None:
    model, tokenizer = in_memory()
    before = Backbone(model, tokenizer, "one").identity
    tokenizer(["May", "a"], padding=True, truncation=True, max_length=2)  # settings of a call
    assert memory_identity(model, tokenizer) == before
    assert Backbone(*in_memory(), "another name").identity == before
    CHANGES[change](model, tokenizer)
    assert memory_identity(model, tokenizer) != before


def test_a_model_of_the_hub_is_known_by_the_commit_in_the_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    found: list[str | None] = [str(folder / "config.json")]
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: found[0])
    assert model_identity("some/model") == model_identity(str(folder))
    found[0] = None
    assert model_identity("some/model") is None


@pytest.mark.parametrize("name", ["nobody/never-loaded-here", "not a hub id: at all", "./gone"])
def test_what_was_never_loaded_is_not_known(name: str) -> None:
    assert model_identity(name) is None


def test_own_code_counts_wherever_it_lies(folder: Path) -> None:
    plain, own = (model_identity(str(folder), trust_remote_code=t) for t in (False, True))
    assert plain != own
    (folder / "parts").mkdir()
    (folder / "parts" / "attention.py").write_text("SCALE = 2")
    assert model_identity(str(folder), trust_remote_code=True) not in {plain, own}
    set_json("config.json", auto_map={"AutoModel": "nobody/elsewhere--modeling.Model"})(folder)
    assert model_identity(str(folder), trust_remote_code=True) is None  # it is not fetched yet


def test_an_adapter_is_known_by_its_bytes(settled: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (settled / name).write_bytes(b"one")
    before = adapter_digest(settled)
    (settled / "adapter_model.safetensors").write_bytes(b"two")
    assert adapter_digest(settled) != before
