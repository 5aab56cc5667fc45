"""How a gradient meta-learner goes on from its start on a new task, in words that JSON has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from icl.learners import registry
from icl.learners.gradient.meta_learner import LoraMetaLearner

if TYPE_CHECKING:
    from icl.exchange.trained import Found
    from icl.models.backbone import Backbone


def inner_loop(found: Found, backbone: Backbone) -> dict[str, Any]:
    """Return what `icl.learners.gradient.inner_loop_alone` has to know beside the parameters.

    It is nothing for a method that takes no inner steps on an encoder.
    """
    learner = registry.learner_class(found.method)
    if not issubclass(learner, LoraMetaLearner):
        return {}
    made = cast("LoraMetaLearner", registry.make(found.method, found.params, backbone))
    rates = list(made.learned.values())
    return {
        "head": made.head if made.head == "prototypes" else "zero",
        "moves_body": made.moves_body,
        "temperature": found.params["temperature"],
        "strength": found.params.get("strength", 0.0),
        "rate_a_step": bool(rates) and all(value.ndim == 1 for value in rates),
        "max_length": backbone.context_length,
    }
