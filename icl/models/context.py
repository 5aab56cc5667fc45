"""Texts beyond a model's context: one rule for every method.

The text's own end is cut (of several fields the longest first); template, instruction and special
tokens stay, and it is said once for each model. Demonstrations are dropped whole, see
`icl.prompting.fitting`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakSet

from icl.errors import IclError

if TYPE_CHECKING:
    from icl.models.base import Model

Fields = Mapping[str, str]
Write = Callable[[Fields], Sequence[str]]
"""Writes all that must fit of one text, each by itself."""

_TOKENS_A_BYTE = 4  # no tokenizer makes more; so short texts need not be counted
_SHOWN = 40
_told: WeakSet[Model] = WeakSet()


def fit_fields(
    backbone: Model,
    texts: Sequence[Fields],
    write: Write,
    *,
    answers: Sequence[str] = (),
    reserve: int = 0,
) -> list[Fields]:
    """Return texts of which all that is written fits into the model's context.

    Args:
        backbone: the model.
        texts: each text's fields.
        write: what the model reads of a text, but for the answer.
        answers: what may stand behind; there is room for the longest.
        reserve: tokens to leave free besides.

    Raises:
        IclError: answers leave no room, or what stands around a text leaves none for any of it; the
            sentence names it.
    """
    room = backbone.context_length - reserve
    if answers:
        room -= max(backbone.sizes(answers))
    if room < 1:
        raise IclError(
            f"The model {backbone.name!r} takes {backbone.context_length} tokens, of which"
            f" {backbone.context_length - room} are to be left for the answer; lower"
            " `max_new_tokens`, or take shorter label words or a model with a longer context."
        )
    written = [list(write(fields)) for fields in texts]
    longest = max((len(text.encode()) for own in written for text in own), default=0)
    if longest * _TOKENS_A_BYTE + _TOKENS_A_BYTE <= room:
        return list(texts)
    parts = iter(backbone.sizes([text for own in written for text in own]))
    sizes = [max((next(parts) for _ in own), default=0) for own in written]
    long = [i for i, size in enumerate(sizes) if size > room]
    fitted = list(texts)
    for i in long:
        fitted[i] = _cut(backbone, texts[i], write, room, sizes[i])
    if long:
        first = joined(texts[long[0]])
        tell_of_cut(backbone, len(long), len(texts), room, first, sizes[long[0]])
    return fitted


def joined(fields: Fields) -> str:
    """Return what embeddings read of a text: its fields, each on a line."""
    return "\n".join(fields.values())


def tell_of_cut(backbone: Model, long: int, count: int, room: int, text: str, tokens: int) -> None:
    """Warn, once for each model, that texts lose their end; `text` is the first, of `tokens`."""
    if backbone in _told:
        return
    _told.add(backbone)
    begins = " ".join(text.split())[:_SHOWN]
    warnings.warn(
        f"{long} of {count} texts are longer than the {room} tokens that {backbone.name!r} takes,"
        f" and lose their end; the first has {tokens} and begins {begins!r}.",
        stacklevel=4,
    )


def _cut(backbone: Model, fields: Fields, write: Write, room: int, tokens: int) -> Fields:
    """Keep the most characters of each field with which all fits."""

    def kept(most: int) -> Fields:
        return {n: v if len(v) <= most else v[:most].rstrip() for n, v in fields.items()}

    def within(most: int) -> bool:
        return max(backbone.sizes(write(kept(most)))) <= room

    # from its beginning on, so that what stays does not depend on how much more there is
    fits, too_long = 0, 1
    while within(too_long):
        fits, too_long = too_long, 2 * too_long
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if within(middle) else (fits, middle)
    cut = kept(fits)
    if not joined(cut).strip():
        begins = " ".join(joined(fields).split())[:_SHOWN]
        raise IclError(
            f"The text that begins {begins!r} does not fit in the model's context of {room} tokens:"
            f" it is {tokens}, and what stands around it leaves no room; shorten instruction and"
            " template, or take a model with a longer context."
        )
    return cut
