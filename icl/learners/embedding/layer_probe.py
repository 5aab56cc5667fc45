"""Choosing the layer and the pooling of embeddings on validation episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from icl.episodes.episode import Episode
from icl.learners.embedding.features import FeatureParams, Features, targets
from icl.learners.embedding.heads import metric

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


def probe_layers(
    backbone: Backbone,
    episodes: Iterable[Episode],
    params: FeatureParams | None = None,
    layers: Sequence[int] | None = None,
) -> Mapping[int, float]:
    """Return the mean query accuracy of cosine prototypes on each layer's embeddings.

    Use episodes of a validation split: their query labels are read.

    Args:
        backbone: the model.
        episodes: with support; what they hold is embedded once a layer.
        params: everything but the layer.
        layers: which to try; by default all after the first, the last one as -1.

    Returns:
        Layer -> accuracy, in the order of `layers`; the first of the highest is the one to take.
    """
    drawn, base = list(episodes), params or FeatureParams()
    return {
        layer: _accuracy(Features(backbone, base.model_copy(update={"layer": layer})), drawn)
        for layer in layers or [*range(1, backbone.depth), -1]
    }


def best_layer(accuracies: Mapping[int, float]) -> int:
    """Return the layer with the highest accuracy, the first of several."""
    return max(accuracies, key=lambda layer: accuracies[layer])


def _accuracy(features: Features, episodes: Sequence[Episode]) -> float:
    shown = [features.shown([x.fields for x in (*e.support, *e.query)], e.labels) for e in episodes]
    vectors = features.finish(features.embedder.embed([t for texts in shown for t in texts]))
    hits = []
    for e, own in zip(episodes, torch.split(vectors, [len(t) for t in shown]), strict=True):
        count = len(e.support)
        head = metric.cosine(own[None, :count], targets(e.support, e.labels)[None], e.ways)
        best = head.scores(own[None, count:])[0].argmax(-1)
        hits.append(float((best == targets(e.query, e.labels)).float().mean()))
    return sum(hits) / len(hits)
