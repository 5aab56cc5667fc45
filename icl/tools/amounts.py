"""Amounts of work: tokens that go through a model, and the arithmetic that is done on them."""

from __future__ import annotations

from dataclasses import dataclass

_BACKWARD = 2.0  # passes' worth of products in a backward pass


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through a model.

    Attributes:
        tokens: positions of forward passes, counted in whole passes, as records count them.
        passes: forward passes' worth of arithmetic, in tokens; more where gradients are taken.
        once: so much of both is of frozen layers, and is not done again for a text that has been
            through them.
    """

    tokens: float = 0.0
    passes: float = 0.0
    once: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Add up."""
        return Work(self.tokens + other.tokens, self.passes + other.passes, self.once + other.once)

    def __mul__(self, factor: float) -> Work:
        """Do it several times."""
        return Work(self.tokens * factor, self.passes * factor, self.once * factor)

    def where_new(self, share: float) -> Work:
        """Return what is left where only such a share of the texts are new to frozen layers."""
        known = self.once * (1 - share)
        return Work(self.tokens - known, self.passes - known, self.once - known)


def forward(tokens: float) -> Work:
    """Return forward passes over so many tokens."""
    return Work(tokens, tokens)


def kept(tokens: float) -> Work:
    """Return forward passes whose outcome is kept for each text."""
    return Work(tokens, tokens, tokens)


def trained(tokens: float, back: float = _BACKWARD) -> Work:
    """Return the same with a backward pass, which costs `back` forward passes."""
    return Work(tokens, tokens * (1 + back))
