"""Whether a model's files are all there and belong together, where transformers would guess."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.models.loading.named import faults_told, file_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHARD = re.compile(r"[\w.-]+\.safetensors")


def check_model(name: str, path: Path) -> None:
    """Raise `IclError` for a directory without a model's configuration; transformers guesses."""
    if not path.is_dir() or (path / "config.json").exists():
        return
    if (path / "adapter_config.json").exists():
        raise IclError(
            f"The model {name!r} cannot be loaded: the directory holds a PEFT adapter; name its"
            " base and give the adapter as a learner's `start`, or merge the two with `icl merge`."
        )
    raise _incomplete(name, "config.json")


def check_weights(name: str, path: str, revision: str | None) -> None:
    """Raise `IclError` where an index names weights that are no safetensors files beside it.

    transformers reads whatever it names, pickles too.
    """
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

    with faults_told(name):
        index = file_of(path, SAFE_WEIGHTS_INDEX_NAME, revision)
        if index is None:
            return
        said = json.loads(index.read_text("utf-8"))
    files = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(files, dict) or not all(_SHARD.fullmatch(str(f)) for f in files.values()):
        raise IclError(
            f"The model {name!r} cannot be loaded: its {SAFE_WEIGHTS_INDEX_NAME} names files that"
            " are not safetensors files beside it; save it anew with `save_pretrained`."
        )


def check_tokenizer(name: str, path: Path) -> None:
    """Raise `IclError` for a directory without a tokenizer; transformers makes an empty one."""
    starts = ("vocab", "spiece")
    if path.is_dir() and not any(
        "token" in file.name or file.name.startswith(starts) for file in path.iterdir()
    ):
        raise _incomplete(name, "tokenizer's files")


def _incomplete(name: str, lacks: str) -> IclError:
    return IclError(
        f"The model {name!r} cannot be loaded: the directory has no {lacks}; give one to which"
        " model and tokenizer were saved by `save_pretrained`."
    )


@contextmanager
def judged_here() -> Iterator[None]:
    """Log no report that weights are missing and no more: `check_complete` judges that."""

    def says_more(record: logging.LogRecord) -> bool:
        said = record.getMessage()
        others = ("UNEXPECTED:", "MISMATCH:", "CONVERSION:")
        return "LOAD REPORT" not in said or any(word in said for word in others)

    log = logging.getLogger("transformers.modeling_utils")
    log.addFilter(says_more)
    try:
        yield
    finally:
        log.removeFilter(says_more)


def check_complete(model: Any, missing: Sequence[str]) -> None:
    """Raise `ValueError` where weights were not there; transformers fills them in by chance."""
    if missing and all(name.startswith("pooler.") for name in missing):
        model.pooler = None  # many encoders were saved without it, and nothing here asks it
    elif missing:
        more = "" if len(missing) == 1 else f" and {len(missing) - 1} more"
        raise ValueError(
            f"its files lack the weights {missing[0]}{more}, so it would answer by chance"
        )


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Raise `IclError` where texts can have tokens that a model has no embeddings for.

    Special tokens do not count, which no ordinary text has (Gemma 3's for images).

    Args:
        name: the model's.
        tokenizer: its tokenizer.
        config: its transformers configuration.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows is None or len(tokenizer) <= rows:
        return
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = [t for t, i in tokenizer.get_vocab().items() if i >= rows and i not in special]
    if beyond:
        raise IclError(
            f"The tokenizer of {name!r} has {len(tokenizer)} tokens, and the model embeddings for"
            f" {rows} ({min(beyond)!r} has none); the two do not belong together, or the model was"
            " saved before `resize_token_embeddings`: save it anew after that."
        )
