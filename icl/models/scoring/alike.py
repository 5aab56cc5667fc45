"""Label words that are the same tokens to a model's tokenizer, however different they look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icl.errors import IclError
from icl.models.tokens import encode
from icl.tasks.task import Labels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BEFORE = ":"  # words are encoded as they stand after a prompt


def check_words(tokenizer: PreTrainedTokenizerBase, labels: Labels) -> None:
    """Raise `IclError` for two labels whose words are the same tokens, as where case is folded.

    What is the same text is refused where labels are made, see `icl.tasks.words`.
    """
    answers = [_BEFORE + labels.template.answer(word) for word in labels.words]
    seen: dict[tuple[int, ...], str] = {}
    for name, row in zip(labels.names, encode(tokenizer, answers), strict=True):
        tokens = tuple(row.tolist())
        if tokens in seen:
            raise IclError(
                f"The words of the labels {seen[tokens]!r} and {name!r} are the same tokens to the"
                " model's tokenizer; give them other words."
            )
        seen[tokens] = name
