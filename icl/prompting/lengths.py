"""Length normalisation: scores per token, character or byte of the answer.

They say different things across scripts: a Thai letter is three bytes and a Latin one is one, and
tokenizers cut some languages far finer than others. The sum is the log-probability itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from icl.models.seq2seq import Seq2Seq
from icl.models.tokens import encode_pairs

if TYPE_CHECKING:
    from icl.models.backbone import Backbone

Normalise = Literal["sum", "token", "character", "byte"]


def lengths(
    backbone: Backbone,
    prompts: Sequence[str],
    answers: Sequence[str],
    by: Normalise,
) -> Tensor:
    """Return what each score is divided by, float32, shape (prompts, answers); at least 1.

    Tokens are those that were scored, which depends on the prompt where a token spans the
    boundary. Characters (code points) and bytes (UTF-8) leave out blanks around the answer.
    """
    tokenizer = backbone.tokenizer
    if by == "token" and isinstance(backbone, Seq2Seq):  # its decoder reads the answer alone
        alone = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        return torch.tensor([float(len(ids)) for ids in alone]).expand(len(prompts), -1)
    if by == "token":
        rows = [
            [float(len(pair.tokens) - pair.answer_from) for pair in row]
            for row in encode_pairs(tokenizer, prompts, answers)
        ]
        return torch.tensor(rows).reshape(len(prompts), len(answers))
    if by == "sum":
        sizes = [1.0] * len(answers)
    else:
        visible = [answer.strip() for answer in answers]
        sizes = [float(len(v) if by == "character" else len(v.encode())) for v in visible]
    return torch.tensor(sizes).clamp_min(1.0).expand(len(prompts), -1)
