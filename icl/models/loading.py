"""Loading a backbone by name: a Hub id, a local directory, or the packaged offline model."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icl.errors import IclError, did_you_mean
from icl.models import attention
from icl.models.backbone import Backbone
from icl.models.check import check_packing
from icl.models.offline import GEMMA, packaged_gemma

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    from transformers import AutoModelForCausalLM

    if dtype not in _DTYPES:
        raise IclError(f"The dtype {dtype!r} is unknown." + did_you_mean(dtype, _DTYPES))
    path = _resolve(name)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = _tokenizer(name, path, revision, trust_remote_code)
    with _faults_told(name):
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            dtype=_DTYPES[dtype],
            attn_implementation=attention.register(),
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        )
    backbone = Backbone(model.to(where), tokenizer, name)
    check_packing(backbone)
    return backbone


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer, without the model; arguments and errors as `load_backbone`."""
    return _tokenizer(name, _resolve(name), revision, trust_remote_code)


def _tokenizer(
    name: str, path: str, revision: str | None, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with _faults_told(name):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
    return tokenizer


@contextmanager
def _faults_told(name: str) -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be read into one sentence."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        near = difflib.get_close_matches(name.removeprefix(PACKAGED_PREFIX), [GEMMA], n=1)
        hint = f" Did you mean '{PACKAGED_PREFIX}{GEMMA}'?" if near else ""
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
        raise IclError(
            f"The model {name!r} cannot be loaded: {reason}; give a causal language model's Hub "
            f"id, a local directory, or '{PACKAGED_PREFIX}{GEMMA}'.{hint}"
        ) from error


def _resolve(name: str) -> str:
    """Return what transformers should load for a model's name."""
    if name.startswith(PACKAGED_PREFIX):
        asked = name.removeprefix(PACKAGED_PREFIX)
        if asked != GEMMA:
            raise IclError(f"No packaged model {asked!r}." + did_you_mean(asked, [GEMMA]))
        return str(packaged_gemma())
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise IclError(f"The model directory {name!r} does not exist; check the path.")
    return str(folder) if folder.is_dir() else name
