"""A self-check at load time: does the packed road give this model's own numbers?"""

from __future__ import annotations

import numpy as np
import torch

from icl.errors import IclError
from icl.models.backbone import Backbone
from icl.models.layout import lay_out
from icl.models.trie import pack

_TOLERANCE = {torch.float32: 2e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


@torch.no_grad()
def check_packing(backbone: Backbone) -> None:
    """Compare packed with plain logits on a few tokens.

    An architecture with attention of its own making (ALiBi, sinks, state spaces) would silently be
    wrong; here it is found out, and `load_backbone` falls back to plain passes.

    Raises:
        IclError: the two roads differ by more than the dtype's rounding.
    """
    size = backbone.model.config.vocab_size
    draw = np.random.default_rng(0).integers(0, size, 12)
    sequences = [draw[:8], np.concatenate([draw[:5], draw[8:]])]
    try:
        trie = pack(sequences)
        packed = backbone.logits(backbone.hidden(lay_out(trie, backbone.device)))
        plain = [
            backbone.model(input_ids=torch.from_numpy(s)[None].to(backbone.device)).logits[0]
            for s in sequences
        ]
    except (NotImplementedError, AttributeError, TypeError) as error:
        raise IclError(
            f"The model {backbone.name!r} ({type(backbone.model).__name__}) cannot be run packed: "
            f"{error}."
        ) from error
    difference = max(
        float((packed[torch.from_numpy(path)] - own).abs().max())
        for path, own in zip(trie.paths, plain, strict=True)
    )
    if not difference <= _TOLERANCE[packed.dtype]:
        raise IclError(
            f"The model {backbone.name!r} ({type(backbone.model).__name__}) gives other numbers "
            f"when packed (logits differ by {difference:.3g})."
        )
    backbone.meter.computed_tokens = 0.0
