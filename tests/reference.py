"""The naive scorer: each prompt and answer alone through the plain model. What ours must equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.models.backbone import Backbone
from icl.models.tokens import encode_pairs


@torch.no_grad()
def naive_scores(backbone: Backbone, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Score every answer after every prompt with one full forward pass each.

    Returns:
        ``log p(answer | prompt)`` in float32, shape (prompts, answers).
    """
    scores = torch.zeros(len(prompts), len(answers))
    for i, row in enumerate(encode_pairs(backbone.tokenizer, prompts, answers)):
        for j, pair in enumerate(row):
            ids = torch.from_numpy(pair.tokens)[None].to(backbone.device)
            log_probs = backbone.model(input_ids=ids).logits[0].float().log_softmax(-1)
            targets = ids[0, pair.answer_from :, None]
            scores[i, j] = log_probs[pair.answer_from - 1 : -1].gather(1, targets).sum().cpu()
    return scores
