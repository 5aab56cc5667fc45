"""`WithoutModel`: what methods that use no model have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icl.learners.base import Learner

if TYPE_CHECKING:
    from icl.models.base import Ability


class WithoutModel(Learner):
    """A method that learns from the support set's texts and labels alone."""

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """No model."""
        return frozenset()

    def __init__(self, backbone: object, params: Any) -> None:
        """Take the common arguments; the backbone is not used."""
        self._params = params
