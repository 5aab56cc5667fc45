"""The size of the adapter that a learner trains, and its random start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from torch import Tensor

from icl.learners.base import Params
from icl.models.adapters.lora import LoraSpec
from icl.models.adapters.lora_start import default_targets, init_lora

if TYPE_CHECKING:
    from icl.models.backbone import Backbone


class AdapterParams(Params):
    """An adapter of the model.

    Attributes:
        rank, alpha: the adapter's size, and its scale ``alpha / rank``.
        targets: names of the adapted linear maps; by default PEFT's choice for the architecture.
        top_layers: adapt only so many of the uppermost layers; by default all.
        seed: of every random start.
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] | None = None
    top_layers: int | None = Field(default=None, ge=1)
    seed: int = 0

    def spec(self, backbone: Backbone) -> LoraSpec:
        """Return the adapter's specification for a backbone."""
        targets = self.targets or default_targets(backbone)
        return LoraSpec(self.rank, self.alpha, targets, self.top_layers)

    def begin(self, backbone: Backbone) -> dict[str, Tensor]:
        """Return the factors to start from, drawn by the seed."""
        return init_lora(backbone, self.spec(backbone), self.seed)
