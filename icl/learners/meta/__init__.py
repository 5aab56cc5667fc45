"""Gradient-based meta-learning over any loss that is a function of a mapping of parameters."""

from icl.learners.meta.algorithm import MetaAlgorithm, MetaStep
from icl.learners.meta.imaml import IMAML
from icl.learners.meta.joint import Joint
from icl.learners.meta.maml import FOMAML, MAML
from icl.learners.meta.maml_plus_plus import MAMLPlusPlus
from icl.learners.meta.meta_sgd import MetaSGD
from icl.learners.meta.optimisers import Adam, InnerOptimiser, Momentum
from icl.learners.meta.problem import Params, Problem, spread
from icl.learners.meta.reptile import Reptile

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
