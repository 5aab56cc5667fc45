"""A model whose windows and switches stand at a few tokens, for checks that must look past them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from icl.models.packed.rope import grows

WINDOW, SWITCH = 3, 8  # tokens
# Names under which transformers' configurations and modules keep a length behind which something
# else is computed: which keys are seen, and by what positions and queries are scaled.
_NAMES = {
    "sliding_window": WINDOW,
    "sliding_window_size": WINDOW,
    "window_size": WINDOW,
    "attention_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "keep_window_size": WINDOW,
    "local_attention": WINDOW,
    "floor_scale": WINDOW,  # Llama 4's temperature; Ministral 3 takes the length before the switch
    "original_max_position_embeddings": SWITCH,
    "original_max_seq_len": SWITCH,
    "max_seq_len_cached": SWITCH,
}


@contextmanager
def narrowed(model: nn.Module) -> Iterator[None]:
    """Hold every window and switch of a model at a few tokens; afterwards each is as it was.

    A window of 4096 is then passed by a dozen tokens, through the very code that a long text takes.
    Weights and frequencies stay, but for those of dynamic NTK, whose length they are made from.
    """
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    homes: list[dict[str, Any]] = [vars(thing) for thing in (*model.modules(), *configs.values())]
    for settings in [s for c in configs.values() if (s := getattr(c, "rope_parameters", None))]:
        homes += [settings, *(s for s in settings.values() if isinstance(s, dict))]
    names = _NAMES | ({"max_position_embeddings": SWITCH} if grows(model) else {})
    before = [
        (home, name, home[name])
        for home in {id(home): home for home in homes}.values()
        for name, small in names.items()
        if type(home.get(name)) is int and home[name] > small
    ]
    for home, name, _ in before:
        home[name] = names[name]
    try:
        yield
    finally:
        for home, name, value in before:
            home[name] = value
