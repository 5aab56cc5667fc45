"""ProtoMAML without second derivatives, as a method of one's own; see `when_it_pays.py`."""

from __future__ import annotations

from icl.learners.gradient.algorithms import FOMAML
from icl.learners.gradient.protomaml import LoraProtoMAML


class FirstOrderProtoMAML(LoraProtoMAML):
    """The head begins at the prototypes, in the graph; inner gradients are not differentiated."""

    method = "first-order-protomaml"
    Algorithm = FOMAML
