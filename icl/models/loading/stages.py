"""Whether a packed model's layers can be entered, left, and run for few rows: found by trying."""

from __future__ import annotations

import numpy as np
import torch

from icl.models.backbone import Backbone
from icl.models.loading.self_check import widened
from icl.models.memory import is_out_of_memory
from icl.models.packed.ends import lay_out_ends
from icl.models.packed.layout import lay_out
from icl.models.packed.trie import pack
from icl.models.parts import text_config

_SAME = 1e-3  # of the largest state


@torch.no_grad()
def has_stages(backbone: Backbone) -> bool:
    """Tell whether the states of a pass that is entered half way up are those of a whole one.

    They are not where layers pass on more than states (Gemma 3n, whose upper layers attend to the
    keys of lower ones). All layers then run each time, which is slower and right.
    """
    draw = np.random.default_rng(1).integers(0, text_config(backbone.model).vocab_size, 12)
    trie = pack([draw[:8], np.concatenate([draw[:5], draw[8:]])])
    layout, middle = lay_out(trie, backbone.device), backbone.depth // 2
    rows = sorted(int(path[-1]) for path in trie.paths)
    lasts = torch.tensor(rows, device=backbone.device)
    ends = lay_out_ends(trie, lasts)
    try:
        with widened(backbone.model):
            whole = backbone.hidden(layout)[lasts]
            trunk = backbone.trunk(layout, middle)
            entered = backbone.hidden(layout, trunk=trunk, start=middle, ends=ends)
    except Exception as error:  # the layers' code is transformers', and fails as it likes
        if is_out_of_memory(error):
            raise
        return False
    finally:
        backbone.meter.computed_tokens = 0.0
    if ends is None:
        entered = entered[lasts]
    return bool((entered - whole).abs().max() <= _SAME * whole.abs().max())
