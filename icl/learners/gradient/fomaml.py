"""First-order MAML over LoRA factors (Finn et al. 2017, arXiv 1703.03400, section 5.2)."""

from __future__ import annotations

from typing import Any, ClassVar

from icl.learners.gradient.algorithms import FOMAML, MetaAlgorithm
from icl.learners.gradient.meta_learner import LoraMetaLearner


class LoraFOMAML(LoraMetaLearner):
    """The meta-gradient is the query gradient where the inner loop ended."""

    method: ClassVar[str] = "fomaml"

    def make_algorithm(self, params: Any) -> MetaAlgorithm:
        """Return first-order MAML."""
        return FOMAML(**params.loop())
