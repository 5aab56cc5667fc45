"""Length normalisation: scores per token, character or byte of the answer.

They say different things across scripts: a Thai letter is three bytes and a Latin one is one, and
tokenizers cut some languages far finer than others. The sum is the log-probability itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from icl.models.base import Model

Normalise = Literal["sum", "token", "character", "byte"]


def lengths(
    backbone: Model,
    prompts: Sequence[str],
    answers: Sequence[str],
    by: Normalise,
) -> Tensor:
    """Return what each score is divided by, float32, shape (prompts, answers); at least 1.

    Tokens are those that were scored, which depends on the prompt where a token spans the
    boundary. Characters (code points) and bytes (UTF-8) leave out blanks around the answer.
    """
    if by == "token":
        rows = backbone.answer_sizes(prompts, answers)
        return torch.tensor(rows, dtype=torch.float32).reshape(len(prompts), len(answers))
    if by == "sum":
        sizes = [1.0] * len(answers)
    else:
        visible = [answer.strip() for answer in answers]
        sizes = [float(len(v) if by == "character" else len(v.encode())) for v in visible]
    return torch.tensor(sizes).clamp_min(1.0).expand(len(prompts), -1)
