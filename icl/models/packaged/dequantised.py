"""A quantised GGUF file as a model folder: plain float32 safetensors and the tokenizer.

Gradients and fast loading then work as with any other model.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from icl.tools.progress import Bar

# The steps' shares of the time, measured on two cores; they only drive the progress bar.
_TOKENIZER, _CONFIG, _WEIGHTS, _WRITE = 0.47, 0.05, 0.41, 0.05


def dequantise(gguf: Path, draft: Path, bar: Bar) -> None:
    """Write what a GGUF file holds into a folder; raises `OSError` where the disk is full."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    # transformers draws tqdm bars of its own on stderr, which would tear ours.
    with contextlib.redirect_stderr(io.StringIO()), _read_once():
        bar.say("reading the tokenizer")
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(draft)
        bar.advance(_TOKENIZER)
        bar.say("reading the configuration")
        config = AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name)
        bar.advance(_CONFIG)
        bar.say("dequantising the weights")
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, config=config, dtype=torch.float32
        )
        bar.advance(_WEIGHTS)
        bar.say("writing")
        # transformers will not save what it marked as quantised, though the weights are plain now.
        config = quantised.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):  # nothing is drawn that is replaced at once
            model = type(quantised)(config)
        model.load_state_dict(quantised.state_dict(), assign=True)
        try:
            model.save_pretrained(draft)
        except SafetensorError as error:  # how safetensors tells of a full disk
            raise OSError(str(error)) from error
        bar.advance(_WRITE)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers read the file once: it opens it anew for each thing that it wants.

    The vocabulary takes millions of slices, each far slower of a memory map than of an array.
    """
    gguf: Any = import_module("gguf")
    opened: Any = gguf.GGUFReader

    class Reader(opened):  # type: ignore[misc]
        @property
        def data(self) -> np.ndarray[Any, Any]:
            return self._plain

        @data.setter
        def data(self, value: np.ndarray[Any, Any]) -> None:
            self._plain = np.asarray(value)

    gguf.GGUFReader = functools.cache(Reader)
    try:
        yield
    finally:
        gguf.GGUFReader = opened
