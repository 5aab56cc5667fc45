"""A self-check at load time: does the packed road give this model's own numbers?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from icl.errors import IclError, in_short
from icl.models.backbone import Backbone
from icl.models.loading.narrowed import SWITCH, narrowed
from icl.models.memory import free_bytes, is_out_of_memory
from icl.models.packed.layout import lay_out
from icl.models.parts import text_config
from icl.models.weights.in_dtype import held_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The mean difference of logits that rounding explains, as a share of their spread. In half
# precision that hides much: the packaged Gemma in bfloat16 stands 2 % from itself in float32,
# packed or not, and ALiBi that is left out makes 0.5 %. So the check is done in float32 where there
# is room for it.
_TOLERANCE = {torch.float16: 0.02, torch.bfloat16: 0.1}
_EXACT = 1e-4


@torch.no_grad()
def check_packing(backbone: Backbone) -> None:
    """Compare packed with plain logits on a few tokens, behind every window and switch.

    An architecture with attention of its own making (ALiBi, sinks, state spaces) would silently be
    wrong; here it is found out, and `load_backbone` falls back to plain passes. What a model
    computes behind a sliding window, a chunk of attention or a switch of its positions is looked
    at too, with the window held at a few tokens (`icl.models.loading.narrowed`): texts of the real
    length would take minutes for a large model.

    Raises:
        IclError: the two roads differ by more than the dtype's rounding.
    """
    size = text_config(backbone.model).vocab_size
    draw = np.random.default_rng(0).integers(0, size, 2 * SWITCH + 4)
    # one text that no switch concerns, and two behind it, which share what all three share
    sequences = [draw[: SWITCH - 1], draw[: 2 * SWITCH], np.delete(draw, slice(5, 9))]
    try:
        with widened(backbone.model) as dtype, narrowed(backbone.model):
            trie = backbone.spans.pack(sequences)
            packed = backbone.logits(backbone.hidden(lay_out(trie, backbone.device)))
            plain = [
                backbone.model(input_ids=torch.from_numpy(s)[None].to(backbone.device)).logits[0]
                for s in sequences
            ]
    except Exception as error:  # the layers' code is transformers', and fails as it likes
        if is_out_of_memory(error):
            raise
        raise IclError(
            f"The model {backbone.name!r} ({type(backbone.model).__name__}) cannot be run packed: "
            f"{in_short(error)}."
        ) from error
    found = torch.cat([packed[torch.from_numpy(path)] for path in trie.paths])
    wanted = torch.cat(plain).to(found.dtype)
    difference = float((found - wanted).abs().mean() / wanted.std())
    if not difference <= _TOLERANCE.get(dtype, _EXACT):
        raise IclError(
            f"The model {backbone.name!r} ({type(backbone.model).__name__}) gives other numbers "
            f"when packed (logits differ by {difference:.2g} of their spread)."
        )
    backbone.meter.computed_tokens = 0.0


@contextmanager
def widened(model: PreTrainedModel) -> Iterator[torch.dtype]:
    """Hold a model's half-precision tensors in float32, if they fit; yield the dtype it then has.

    Every bfloat16 and float16 number is a float32 number, so afterwards all is as it was.
    """
    halves = [t for t in (*model.parameters(), *model.buffers()) if t.dtype in _TOLERANCE]
    more: defaultdict[torch.device, int] = defaultdict(int)
    for tensor in halves:
        more[tensor.device] += 2 * tensor.nbytes
    fits = all(size <= free_bytes(device) for device, size in more.items() if device.type != "meta")
    with held_in(torch.float32, model, lambda t: fits and t.dtype in _TOLERANCE):
        yield model.dtype
