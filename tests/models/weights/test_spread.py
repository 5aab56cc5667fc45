"""Bases over several devices, main memory and disk: the numbers of one device."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from icl.errors import IclError
from icl.experiments.model_config import ModelConfig
from icl.experiments.models import make_model
from icl.models.adapters.lora import LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import make_plan, score
from icl.processes.group import Processes
from icl.training.gradient_check import check_gradients
from tests import tiny, tiny_encoders
from tests.reference import naive_scores
from tests.second_order import meta_gradient
from tests.training.test_gradient_check import EPISODES, learner

PROMPTS = ["Word: May\nKind:", "Word: Monday\nKind:", "Word: May and more\nKind:"]
ANSWERS = [" month", " weekday"]
_ON_DISK: dict[str, str | int] = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "disk",
    "model.rotary_emb": "cpu",
    "lm_head": "cpu",
}


def test_on_a_pretend_device() -> None:
    """torch does not forget such a device, so it is for a process of its own."""
    tests = Path(__file__).with_name("on_a_pretend_device.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_layers_on_disk_give_the_numbers_of_those_in_memory(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path))
    whole = load_backbone(folder, device="cpu")
    backbone = load_backbone(folder, device_map=_ON_DISK)
    fetched = [{p.device.type for p in layer.parameters()} for layer in backbone.layers]
    assert fetched == [{"cpu"}, {"meta"}, {"meta"}]
    assert backbone.packed
    assert backbone.identity == whole.identity
    with torch.no_grad():
        found = score(backbone, make_plan(backbone, PROMPTS, ANSWERS))
        wanted = score(whole, make_plan(whole, PROMPTS, ANSWERS))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(naive_scores(backbone, PROMPTS, ANSWERS), wanted, atol=1e-4, rtol=0)
    gradient, right = (meta_gradient(b, PROMPTS, ANSWERS) for b in (backbone, whole))
    assert float((gradient - right).norm() / right.norm()) < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_own_head_on_disk_and_half_precision_change_no_number(
    tmp_path: Path, dtype: str
) -> None:
    """The head comes last, so that what `auto` has no room for is the head at first."""
    folder = str(tiny.save(tmp_path))
    whole = load_backbone(folder, device="cpu", dtype=dtype)
    backbone = load_backbone(folder, device_map=_ON_DISK | {"lm_head": "disk"}, dtype=dtype)
    assert backbone.packed
    assert next(backbone.head.parameters()).device.type == "meta"
    assert {p.dtype for p in backbone.model.parameters()} == {getattr(torch, dtype)}
    for relative in (False, True):
        with torch.no_grad():
            found, wanted = (
                score(b, make_plan(b, PROMPTS, ANSWERS), relative=relative)
                for b in (backbone, whole)
            )
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    gradient, right = (meta_gradient(b, PROMPTS, ANSWERS) for b in (backbone, whole))
    assert float((gradient - right).norm() / right.norm()) < 1e-4


def test_gradients_are_checked_over_layers_on_disk(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path))
    backbone = load_backbone(folder, device_map=_ON_DISK)
    before = {name: tensor.dtype for name, tensor in backbone.model.named_parameters()}
    for method in ("maml", "fomaml"):  # the second finds the model as it was
        checks = check_gradients(learner(method, backbone), EPISODES)
        assert all(check.passed for check in checks), checks
    assert {name: t.dtype for name, t in backbone.model.named_parameters()} == before


def test_dora_over_weights_that_are_fetched_is_refused(tmp_path: Path) -> None:
    backbone = load_backbone(str(tiny.save(tmp_path)), device_map=_ON_DISK)
    with pytest.raises(IclError, match="without `cpu` and `disk`"):
        init_lora(backbone, LoraSpec(rank=2, variant="dora"), seed=0)


@pytest.mark.parametrize(
    ("places", "told"),
    [
        ({}, "has no place for 'model.embed_tokens.weight' and"),
        ({"nope": "cpu"}, "names 'nope', which the model does not have"),
        (_ON_DISK | {"model.layrs.0": "cpu"}, "Did you mean 'model.layers.0'?"),
        ({"model.embed_tokens": "cpu"}, "has no place for 'model.layers.0"),
        ({"": "gpu"}, "The device 'gpu' cannot be used here"),
        ({"": "cuda:77"}, "The device 'cuda:77' cannot be used here"),
        ({"": 77}, "The device 'cuda:77' cannot be used here"),
        ({"": "meta"}, "The device 'meta' cannot be used here"),
    ],
)
def test_a_map_that_does_not_fit_is_told_before_anything_is_loaded(
    places: dict[str, str | int], told: str, tmp_path: Path
) -> None:
    with pytest.raises(IclError, match=re.escape(told)):
        load_backbone(str(tiny.save(tmp_path)), device_map=places)


@pytest.mark.parametrize("device", ["nope", "cuda:77", "meta"])
def test_a_device_that_is_not_there_is_told(device: str, tmp_path: Path) -> None:
    with pytest.raises(IclError, match=f"The device '{device}' cannot be used here"):
        load_backbone(str(tiny.save(tmp_path)), device=device)


def test_encoders_are_not_spread(tmp_path: Path) -> None:
    folder = str(tiny_encoders.save(tmp_path))
    with pytest.raises(IclError, match="`device_map` is for causal models"):
        load_backbone(folder, device_map="auto")


def test_processes_on_one_machine_do_not_each_take_all_of_it() -> None:
    config = ModelConfig(name="some/model", device_map="auto")
    with pytest.raises(IclError, match=r"2 processes run on this one; run one, or drop it\.$"):
        make_model(config, Processes(0, 2, neighbours=2)).backbone()
