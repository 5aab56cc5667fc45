"""What `auto` and no word mean for how texts are embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from icl.learners.embedding.features import FeatureParams, Features
from icl.learners.registry import validate
from icl.models.base import Model
from icl.models.embedding.embedder import Embedder
from icl.models.embedding.own_vectors import embedder_of
from icl.models.embedding.usual import USUAL_POOLING, layer_before, usual_layer
from icl.runs.keys import learner_key
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests import tiny, tiny_encoders
from tests.models.embedding.test_sentence import CLS, loaded, save

TEXTS = ["Montag", "the cat sat on the mat", "x"]


def test_a_causal_model_embeds_as_was_measured() -> None:
    model = tiny.backbone()
    features = Features(model, FeatureParams())
    ours = features.embedder.embed(TEXTS)
    expected = Embedder(model, usual_layer(model.depth), USUAL_POOLING, keep=False).embed(TEXTS)
    assert torch.equal(ours, expected)


def test_no_word_is_what_was_taken_before_that_was_measured() -> None:
    """So that a configuration with all defaults written out keeps its numbers."""
    model = tiny.backbone()
    old = FeatureParams.model_validate({"layer": None, "pooling": None, "prompted": False})
    ours = Features(model, old).embedder.embed(TEXTS)
    expected = Embedder(model, layer_before(model.depth), "last", keep=False).embed(TEXTS)
    assert torch.equal(ours, expected)
    assert not torch.allclose(ours, Features(model, FeatureParams()).embedder.embed(TEXTS))


def test_what_is_given_is_taken_and_the_rest_is_usual() -> None:
    model = tiny.backbone()
    given: list[FeatureParams] = [
        FeatureParams(layer=1, pooling="max"),
        FeatureParams(layer=1),
        FeatureParams(pooling="max"),
        FeatureParams(),
    ]
    made = [embedder_of(model, own.layer, own.pooling) for own in given]
    usual = usual_layer(model.depth)
    assert [(e.layer, e.pooling) for e in made if isinstance(e, Embedder)] == [
        (1, "max"),
        (1, USUAL_POOLING),
        (usual, "max"),
        (usual, USUAL_POOLING),
    ]


@pytest.mark.parametrize("said", ["auto", None])
def test_an_encoder_gives_the_mean_of_its_last_states(said: str | None) -> None:
    model = tiny_encoders.encoder()
    params = FeatureParams.model_validate({"layer": said, "pooling": said})
    expected = Embedder(model, -1, "mean", keep=False).embed(TEXTS)
    assert torch.equal(Features(model, params).embedder.embed(TEXTS), expected)


@pytest.mark.filterwarnings("ignore:.*are longer than")
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("said", ["auto", None])
def test_what_a_models_own_files_say_goes_before_either(
    causal: bool, said: str | None, tmp_path: Path
) -> None:
    model = loaded(save(tmp_path, CLS, causal=causal, prompt="q "))
    params = FeatureParams.model_validate({"layer": said, "pooling": said})
    embedder = Features(model, params).embedder
    assert isinstance(embedder, Embedder)
    assert embedder.before == "q "
    plain = Embedder(model, -1, "cls", "q ", keep=False)
    torch.testing.assert_close(embedder.embed(TEXTS), plain.embed(TEXTS), atol=1e-5, rtol=0)


LABELS = Labels(("a", "b"), ("a", "b"), Template("Text: {{ text }}\nTopic:"))


def shown(model: Model, **params: Any) -> str:
    return Features(model, FeatureParams(**params)).shown([{"text": "x"}], LABELS)[0]


def test_a_causal_model_reads_the_text_in_its_template_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    assert shown(tiny.backbone()) == "Text: x\nTopic:"
    assert shown(tiny.backbone(), layer=1, pooling="last") == "Text: x\nTopic:"
    assert shown(tiny.backbone(), prompted=False) == "x"
    assert shown(tiny.backbone(), pooling="prompt") == "x"
    assert shown(tiny_encoders.encoder()) == "x"
    assert shown(tiny_encoders.encoder(), prompted=True) == "Text: x\nTopic:"
    assert shown(loaded(save(tmp_path, CLS, causal=True))) == "x"
    examples = [Example("1", {"text": "x"}, "a", "", "1")]
    for encoder, text in ((False, "Text: x\nTopic:"), (True, "x")):
        assert FeatureParams().uncut(examples, LABELS, encoder) == [text]


def test_what_gives_other_numbers_has_another_key() -> None:
    said: list[dict[str, Any]] = [
        {},
        {"layer": None},
        {"pooling": None},
        {"layer": 1},
        {"pooling": "last"},
    ]
    said += [{"prompted": False}, {"prompted": True}]
    keys = {
        learner_key("prototypes", validate("prototypes", params).identity(), "model")
        for params in said
    }
    assert len(keys) == len(said)
    written = {"layer": "auto", "pooling": "auto", "prompted": "auto"}
    assert learner_key("prototypes", validate("prototypes", written).identity(), "model") in keys


def test_a_layer_is_a_number_or_a_word_that_is_known() -> None:
    for wrong in ("top", -2):
        with pytest.raises(ValueError, match="layer"):
            FeatureParams.model_validate({"layer": wrong})
