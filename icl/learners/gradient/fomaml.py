"""First-order MAML over LoRA factors (Finn et al. 2017, arXiv 1703.03400, section 5.2)."""

from __future__ import annotations

from icl.learners.gradient.algorithms import FOMAML
from icl.learners.gradient.meta_learner import LoraMetaLearner


class LoraFOMAML(LoraMetaLearner):
    """The meta-gradient is the query gradient where the inner loop ended."""

    method = "fomaml"
    Algorithm = FOMAML
