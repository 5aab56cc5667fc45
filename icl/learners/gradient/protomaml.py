"""ProtoMAML over LoRA factors (Triantafillou et al. 2020, arXiv 1903.03096, section 3.2)."""

from __future__ import annotations

from icl.learners.gradient.maml import LoraMAML


class LoraProtoMAML(LoraMAML):
    """MAML whose head begins at the prototypes of the support, in the graph.

    The inner loop moves the LoRA factors and the head; without inner steps it is a prototypical
    network on the adapted model's states.
    """

    method = "protomaml"
    head = "prototypes"
