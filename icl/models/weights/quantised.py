"""Frozen bases in 4 or 8 bits, by bitsandbytes (extra ``quantise``).

4 bits are NormalFloat with doubly quantised constants (QLoRA, Dettmers et al. 2023, arXiv
2305.14314); 8 bits LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339). Linear maps but the head
are quantised; embeddings, norms and the head keep the dtype, in which all is computed (8 bits
multiply in float16). Adapters are values in float32 beside them, as on any base.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from icl.errors import IclError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Bits = Literal["4bit", "8bit"]
_BLOCK = 64
# It says at each import, for models in full precision too, which kernels it has not.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def quantised_options(bits: Bits, dtype: torch.dtype, where: torch.device) -> dict[str, Any]:
    """Return the options of `from_pretrained` that load a base so.

    Args:
        bits: ``4bit`` or ``8bit``.
        dtype: in which 4-bit weights are multiplied.
        where: the device; a quantised model cannot be moved later.

    Raises:
        IclError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes  # type: ignore[import-untyped, import-not-found, unused-ignore]  # noqa: F401
    except ImportError as error:
        raise IclError(
            f"`quantise: {bits}` needs the package 'bitsandbytes', which is not installed; run:"
            " pip install 'icl[quantise]'."
        ) from error
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    if bits == "8bit":
        # it says at each product that the product is in float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        chosen = config(load_in_8bit=True)
    else:
        chosen = config(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": chosen, "device_map": {"": where}}


def prepare(model: PreTrainedModel) -> None:
    """Make a quantised model ready for adapters.

    bitsandbytes repacks 4-bit weights for its bfloat16 kernel on CPUs at the first pass without a
    gradient, and no gradient passes a repacked weight afterwards: adapters below it would silently
    learn from a wrong one. That road is closed here.

    Raises:
        IclError: its 4-bit weights are of a width that bitsandbytes packs wrongly on CPUs.
    """
    for name, module in model.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        width = getattr(module, "in_features", 0)
        on_cpu = any(p.device.type == "cpu" for p in module.parameters(recurse=False))
        if type(module).__name__ == "Linear4bit" and on_cpu and width % _BLOCK:
            raise IclError(
                f"On CPUs, bitsandbytes holds a linear map of {width} inputs ({name}) wrongly in 4"
                f" bits, which come in blocks of {_BLOCK}; take `quantise: 8bit`, or a GPU."
            )
