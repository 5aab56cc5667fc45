"""Label scores without packing: each distinct sequence through the plain model, once.

The road of decoders whose attention cannot be packed (ALiBi, state spaces). Slow and exact: no
padding, so that scores do not depend on batch composition. Answers of one token share their prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icl.models.backbone import Backbone
from icl.models.tokens import encode_pairs


@torch.no_grad()
def plain_scores(backbone: Backbone, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Return ``log p(answer | prompt)``, float32, shape (prompts, answers)."""
    scores = torch.zeros(len(prompts), len(answers), device=backbone.device)
    end = None if backbone.spans else -1  # the last token is not read, but its place may count
    for i, row in enumerate(encode_pairs(backbone.tokenizer, prompts, answers)):
        by_context: dict[bytes, list[int]] = {}
        for j, pair in enumerate(row):
            by_context.setdefault(pair.tokens[:-1].tobytes(), []).append(j)
            backbone.meter.prompt_tokens += len(pair.tokens) - 1
        for columns in by_context.values():
            context = torch.from_numpy(row[columns[0]].tokens[:end])[None].to(backbone.device)
            first = min(row[j].answer_from for j in columns) - 1
            log_probs = backbone.model(input_ids=context).logits[0, first:].float().log_softmax(-1)
            backbone.meter.computed_tokens += context.shape[1]
            for j in columns:
                begin = row[j].answer_from
                targets = torch.from_numpy(row[j].tokens[begin:]).to(backbone.device)
                rows = log_probs[begin - 1 - first :][: len(targets)]
                scores[i, j] = rows.gather(1, targets[:, None]).sum()
    return scores
