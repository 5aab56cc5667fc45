"""Where the weights of packaged models come from, for those who are told of them elsewhere.

In a file of its own, which no model reads: words for people decide no number, and no record's key.
"""

from __future__ import annotations

from dataclasses import dataclass

from icl.models.packaged.catalogue import PREFIX


@dataclass(frozen=True, slots=True)
class WeightOrigin:
    """Where a packaged model's weights come from.

    Attributes:
        hub: the model of the Hub that they are.
        licence: of the weights.
        rounded: whether they are that model's in about 4 bits, so that its own weights give other
            numbers.
    """

    hub: str
    licence: str
    rounded: bool = True


_ORIGINS = {
    "gemma-3-270m": WeightOrigin("google/gemma-3-270m", "Gemma terms of use"),
    "all-minilm-l6-v2": WeightOrigin(
        "sentence-transformers/all-MiniLM-L6-v2", "Apache-2.0", rounded=False
    ),
    "multilingual-e5-small": WeightOrigin("intfloat/multilingual-e5-small", "MIT"),
    "smollm2-135m-instruct": WeightOrigin("HuggingFaceTB/SmolLM2-135M-Instruct", "Apache-2.0"),
}


def origin_of(name: str) -> WeightOrigin | None:
    """Return where a packaged model's weights come from, by its whole name; None for others."""
    return _ORIGINS.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
