"""Gradient-based meta-learning over any loss that is a function of a mapping of parameters."""

from icl.learners.gradient.algorithms.algorithm import MetaAlgorithm, MetaStep
from icl.learners.gradient.algorithms.imaml import IMAML
from icl.learners.gradient.algorithms.maml import FOMAML, MAML, Joint
from icl.learners.gradient.algorithms.maml_plus_plus import MAMLPlusPlus
from icl.learners.gradient.algorithms.meta_sgd import MetaSGD
from icl.learners.gradient.algorithms.optimisers import Adam, InnerOptimiser, Momentum
from icl.learners.gradient.algorithms.problem import Params, Problem, spread
from icl.learners.gradient.algorithms.reptile import Reptile

__all__ = [
    "FOMAML",
    "IMAML",
    "MAML",
    "Adam",
    "InnerOptimiser",
    "Joint",
    "MAMLPlusPlus",
    "MetaAlgorithm",
    "MetaSGD",
    "MetaStep",
    "Momentum",
    "Params",
    "Problem",
    "Reptile",
    "spread",
]
