"""`scripts/choose_defaults.py`: one pass gives what `Embedder` gives; what a choice loses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from tests.models.embedding.test_embedder import backbone

ROOT = Path(__file__).parents[1]
TEXTS = ["the cat sat on a mat", "organ", "January of the organic cat", "слово"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "scripts/choose_defaults.py"
    spec = importlib.util.spec_from_file_location("choose_defaults", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there for their annotations
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("causal", [True, False])
def test_one_pass_gives_every_layers_and_poolings_vectors(script: ModuleType, causal: bool) -> None:
    model: Backbone = backbone(causal)
    layers = [1, model.depth - 1, -1]
    ways = script.poolings_of(model, "bare")
    rows = Embedder(model, pooling="mean").encode(TEXTS)
    found = script.vectors(model, rows, layers, ways)
    assert set(found) == {(layer, way) for layer in layers for way in ways}
    for (layer, way), vectors in found.items():
        expected = Embedder(model, layer, way, keep=False).embed(TEXTS)
        torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
