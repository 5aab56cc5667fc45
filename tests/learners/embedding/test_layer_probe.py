from __future__ import annotations

import pytest
import torch

from icl.learners.embedding.features import FeatureParams
from icl.learners.embedding.layer_probe import best_layer, probe_layers
from icl.learners.registry import make
from tests import tiny, tiny_encoders
from tests.learners import problems

EPISODES = [problems.episode(0), problems.episode(1), problems.episode(2, shots=3)]


@pytest.mark.parametrize("causal", [False, True])
def test_a_layers_accuracy_is_that_of_cosine_prototypes_on_it(causal: bool) -> None:
    backbone = tiny.backbone() if causal else tiny_encoders.encoder()
    found = probe_layers(backbone, EPISODES, FeatureParams(pooling="mean"))
    assert list(found) == [1, 2, -1]
    for layer, accuracy in found.items():
        params = {"metric": "cosine", "pooling": "mean", "layer": layer}
        learner = make("prototypes", params, backbone)
        hits = []
        for e in EPISODES:
            out = learner.adapt(e.support, e.labels).log_probs([q.fields for q in e.query])
            gold = torch.tensor([e.labels.index(q.label) for q in e.query])
            hits.append(float((out.argmax(1) == gold).float().mean()))
        assert accuracy == pytest.approx(sum(hits) / 3)


def test_the_best_layer_is_the_first_of_the_highest() -> None:
    assert best_layer({1: 0.5, 2: 0.7, -1: 0.7}) == 2
