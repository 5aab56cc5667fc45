"""`scripts/choose_defaults.py`: one pass gives what `Embedder` gives; what a choice loses."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from icl.learners.embedding.features import FeatureParams, Features
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.tasks.task import Labels
from icl.tasks.template import Template
from tests.models.embedding.test_embedder import backbone

ROOT = Path(__file__).parents[1]
TEXTS = ["the cat sat on a mat", "organ", "January of the organic cat", "слово"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))  # as where the script is run
    path = ROOT / "scripts/choose_defaults.py"
    spec = importlib.util.spec_from_file_location("choose_defaults", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there for their annotations
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "scripts"))
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


def row(model: str, data: str, first: list[float], second: list[float]) -> dict[str, Any]:
    """What is kept of one pass with two choices, each right in so many percent of each half."""
    unlike = [[x - 1 for x in second], [x + 1 for x in second]]  # by the two heads
    heads = {"8/12 last": [first, first], "last mean": unlike}
    return {"model": model, "data": data, "way": "bare", "kind": "causal", "heads": heads}


A, B = ("bare", "8/12", "last"), ("bare", "last", "mean")


def test_a_regret_is_the_accuracy_lost_against_the_best_of_that_model_and_data(
    script: ModuleType,
) -> None:
    rows = [row("m", "nusax", [50, 60], [70, 50]), row("m", "cldr", [40, 40], [30, 34])]
    scores = script.scores_of(rows)
    nusax, cldr = scores["m"]["nusax"], scores["m"]["cldr"]
    assert (script.regret(nusax, A), script.regret(nusax, B)) == (5, 0)  # 55 and 60
    assert (script.regret(cldr, A), script.regret(cldr, B)) == (0, 8)
    # by the first half B is the best, which has 50 on the second; by the second A, 50 on the first
    assert script.split_regret(nusax, A) == ((50 - 50) + (50 - 60)) / 2
    assert script.split_regret(nusax, B) == ((50 - 70) + (50 - 50)) / 2
    assert script.mean_regrets(scores) == {A: 2.5, B: 4.0}
    assert list(script.mean_regrets(scores, "cldr")) == [B, A]


def test_what_is_left_out_decides_nothing_of_its_own_choice(script: ModuleType) -> None:
    rows = [row("m", "nusax", [55, 55], [60, 60]), row("m", "cldr", [40, 40], [32, 32])]
    # each is chosen for by the other
    assert script.left_out(script.scores_of(rows)) == {("m", "nusax"): 5, ("m", "cldr"): 8}
    # the data sets of one family do not choose for one another
    rows.append(row("m", "cldr, other tasks", [40, 40], [32, 32]))
    found = script.left_out(script.scores_of(rows))
    assert found["m", "cldr, other tasks"] == 8


@pytest.mark.parametrize("causal", [True, False])
def test_the_default_of_the_tables_is_that_of_the_code(script: ModuleType, causal: bool) -> None:
    model = backbone(causal)
    way, place, pooling = script.DEFAULT["causal" if causal else "encoder"]
    features = Features(model, FeatureParams())
    embedder = features.embedder
    assert isinstance(embedder, Embedder)
    assert (embedder.layer, embedder.pooling) == (script.layers_of(model.depth)[place], pooling)
    labels = Labels(("a", "b"), ("a", "b"), Template("Text: {{ text }}\nTopic:"))
    [shown] = features.shown([{"text": "x"}], labels)
    assert shown == ("Text: x\nTopic:" if way == "prompted" else "x")


def test_a_page_keeps_what_stands_outside_its_markers(script: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n")
    for block in ("one", "two"):
        script.write_page(page, block)
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert "two" in text
    assert "one" not in text
