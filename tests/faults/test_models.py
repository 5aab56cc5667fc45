"""Models whose files are incomplete, odd or too large: one sentence, and never a guess."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from icl.errors import IclError
from icl.models.loading.load import load_backbone
from tests import tiny, tiny_encoders
from tests.faults.test_run import quick
from tests.place import Place

Tensors = dict[str, torch.Tensor]


def rewrite(model: Path, change: Callable[[Tensors], object]) -> None:
    """Change the weights of a model's directory."""
    weights = model / "model.safetensors"
    tensors = load_file(weights)
    change(tensors)
    save_file(tensors, weights, {"format": "pt"})


def refused(model: Path) -> str:
    with pytest.raises(IclError) as caught:
        load_backbone(str(model), device="cpu")
    told = str(caught.value)
    assert f"The model {str(model)!r} cannot be loaded: " in told
    assert "\n" not in told
    return told


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_weights_that_are_missing_are_never_filled_in_by_chance(kind: str, tmp_path: Path) -> None:
    save = tiny.save if kind == "decoder" else tiny_encoders.save
    model = save(tmp_path / "model")
    lost: list[str] = []

    def lose(tensors: Tensors) -> None:
        lost[:] = sorted(name for name in tensors if ".1." in name)
        for name in lost:
            del tensors[name]

    rewrite(model, lose)
    assert f"lack the weights {lost[0]} and {len(lost) - 1} more" in refused(model)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What transformers logs while it reads weights; its logger hands nothing on by itself."""
    log = logging.getLogger("transformers.modeling_utils")
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)


def test_an_encoder_that_was_saved_without_its_pooler_is_the_same_at_every_load(
    tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    model = tiny_encoders.save(tmp_path / "model", "bert")
    whole = load_backbone(str(model), device="cpu")

    def lose(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith("pooler.")]:
            del tensors[name]

    rewrite(model, lose)
    first, second = (load_backbone(str(model), device="cpu") for _ in range(2))
    assert first.identity == second.identity != whole.identity
    text = {name: torch.tensor([[0, 9, 2]]) for name in ("input_ids",)}
    with torch.no_grad():
        states = [b.model(**text).last_hidden_state for b in (whole, first)]
    assert torch.equal(*states)
    assert "LOAD REPORT" not in logged.text


def test_weights_that_nothing_takes_are_reported(
    tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    model = tiny_encoders.save(tmp_path / "model", "bert")
    rewrite(model, lambda tensors: tensors.update({"cls.more": torch.zeros(2)}))
    load_backbone(str(model), device="cpu")
    assert "cls.more" in logged.text


def test_weights_of_another_shape_are_one_sentence(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model")
    rewrite(model, lambda t: t.update({n: v[:-1].clone() for n, v in t.items() if "norm" in n}))
    assert "its files are damaged or do not fit together" in refused(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["[]", "3", '{"model_type": 3}', '{"model": []}'])
def test_json_of_another_shape_is_one_sentence_or_read(
    name: str, content: str, tmp_path: Path
) -> None:
    model = tiny.save(tmp_path / "model")
    (model / name).write_text(content)
    try:
        load_backbone(str(model), device="cpu")
    except IclError as error:
        assert str(model) in str(error)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Cannot allocate memory")])
def test_a_model_that_memory_does_not_hold_is_one_sentence(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.save(tmp_path / "model")

    def large(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", large)
    with pytest.raises(IclError, match=r"Memory ran out while .* `model.quantise`"):
        load_backbone(str(model), device="cpu")


@pytest.mark.parametrize("of", ["weights", "tokenizer"])
def test_another_model_in_the_same_place_is_found_behind_sizes_and_times(
    of: str, place: Place
) -> None:
    config = quick(place, "learners:\n  zero-shot: {method: zero-shot}\n")
    model = tiny.save(place.folder / "other")
    config.write_text(config.read_text().replace(f"{place.folder}/model", str(model)))
    assert place.icl("run", config, "--out", "run", "--limit", 1)[0] == 0
    before = json.loads(Path("run/run.json").read_text())
    changed = model / ("model.safetensors" if of == "weights" else "tokenizer_config.json")
    times = changed.stat()
    if of == "weights":
        rewrite(model, lambda t: [v.mul_(0.5) for v in t.values()])
    else:
        changed.write_text(changed.read_text().replace('"pad_token": "</s>"', '"pad_token": "<s>"'))
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed.stat().st_mtime_ns == times.st_mtime_ns
    assert place.icl("run", config, "--out", "run", "--limit", 2)[0] == 0
    after = json.loads(Path("run/run.json").read_text())
    assert after["learners"][0]["model"] != before["learners"][0]["model"]
    lines = [json.loads(line) for line in Path("run/records.jsonl").read_text().splitlines()]
    assert len({line["learner_key"] for line in lines}) == 2
    (row,) = json.loads(Path("run/run.json").read_text())["learners"]
    assert sum(line["learner_key"] == row["key"] for line in lines) == 8  # all, by the new one
