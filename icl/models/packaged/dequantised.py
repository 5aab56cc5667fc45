"""A quantised GGUF file as a model folder: plain float32 safetensors and the tokenizer.

Gradients and fast loading then work as with any other model.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from icl.tools.progress import Bar

# The steps' shares of the time, measured on two cores; they only drive the progress bar.
_TOKENIZER, _CONFIG, _WEIGHTS, _WRITE = 0.28, 0.28, 0.36, 0.06


def dequantise(gguf: Path, draft: Path, bar: Bar) -> None:
    """Write what a GGUF file holds into a folder; raises `OSError` where the disk is full."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    # transformers draws tqdm bars of its own on stderr, which would tear ours.
    with contextlib.redirect_stderr(io.StringIO()):
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
        model = type(quantised)(config)
        model.load_state_dict(quantised.state_dict())
        try:
            model.save_pretrained(draft)
        except SafetensorError as error:  # how safetensors tells of a full disk
            raise OSError(str(error)) from error
        bar.advance(_WRITE)
