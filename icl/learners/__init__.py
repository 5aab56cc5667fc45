"""Learners: every way of adapting to a task from a few examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icl.learners import registry
from icl.learners.base import Learner, MetaLearner, Params, Predictor
from icl.learners.registry import methods

if TYPE_CHECKING:
    from icl.models.base import Model

__all__ = ["Learner", "MetaLearner", "Params", "Predictor", "make", "methods"]


def make(
    method: str, model: str | Model | None = "packaged:gemma-3-270m", **params: Any
) -> Learner:
    """Make a learner; ``make("lora", model, steps=20).adapt(support, labels)`` gives a predictor.

    >>> make("majority", None).method
    'majority'

    Args:
        method: a method's name, see `methods`.
        model: a loaded backbone (`icl.load_model`), or a name to load it by.
        params: the method's own parameters; the others keep their defaults.

    Raises:
        IclError: an unknown method, parameter or model, or a model that does not suit the method.
    """
    checked = registry.validate(method, params)
    if isinstance(model, str):
        from icl.models.loading.own_model import load_model

        model = load_model(model) if registry.needs(method, checked) else None
    return registry.make(method, params, model)
