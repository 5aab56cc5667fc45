"""Loading a backbone by name: a Hub id, a local directory, or the packaged offline model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from icl.errors import IclError, did_you_mean
from icl.models import attention
from icl.models.backbone import Backbone
from icl.models.check import check_packing

PACKAGED_PREFIX = "packaged:"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_backbone(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load a causal language model and its tokenizer, ready for exact packed scoring.

    Args:
        name: a Hub id, a local directory, or ``packaged:gemma-3-270m`` (extra ``offline``).
        revision: a Hub revision.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: a torch device; by default CUDA where there is one, else the CPU.
        trust_remote_code: let the repository's own Python code run.

    Raises:
        IclError: the model is unknown, cannot be read, or cannot be packed exactly.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in _DTYPES:
        raise IclError(f"The dtype {dtype!r} is unknown." + did_you_mean(dtype, _DTYPES))
    path = _resolve(name)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            dtype=_DTYPES[dtype],
            attn_implementation=attention.register(),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError, ImportError) as error:
        raise IclError(
            f"The model {name!r} cannot be loaded: {_first_sentence(error)} "
            "Give a causal language model's Hub id, a local directory, or "
            "'packaged:gemma-3-270m'."
        ) from error
    backbone = Backbone(model.to(where), tokenizer, name)
    check_packing(backbone)
    return backbone


def _resolve(name: str) -> str:
    """Return what transformers should load for a model's name."""
    if name.startswith(PACKAGED_PREFIX):
        from icl.models.offline import packaged_gemma

        known = "gemma-3-270m"
        asked = name.removeprefix(PACKAGED_PREFIX)
        if asked != known:
            raise IclError(f"No packaged model {asked!r}." + did_you_mean(asked, [known]))
        return str(packaged_gemma())
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise IclError(f"The model directory {name!r} does not exist; check `model.name`.")
    return str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.split(". ")[0].rstrip(".") + "."
