"""Tiny randomly initialised encoders and a word tokenizer: no network, no files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from icl.models.encoder import Encoder, register

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "vocab_size": 400,
    "pad_token_id": 1,
}
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**_SIZES),
    "xlm-roberta": XLMRobertaConfig(**_SIZES),
    "distilbert": DistilBertConfig(
        dim=32, hidden_dim=48, n_layers=3, n_heads=4, max_position_embeddings=66, vocab_size=400
    ),
}


@lru_cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer by characters that adds [CLS] and [SEP]."""
    characters = [chr(c) for c in range(32, 383)]
    words = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", *characters]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=64,
    )


def model(architecture: str = "bert", implementation: str | None = None) -> Any:
    """A tiny model with weights large enough that texts differ clearly."""
    config = type(CONFIGS[architecture]).from_dict(CONFIGS[architecture].to_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AutoModel.from_config(config, attn_implementation=implementation)
        for parameter in made.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    return made


def encoder(architecture: str = "bert") -> Encoder:
    """A tiny encoder, ready to embed."""
    return Encoder(model(architecture, register()), tokenizer(), f"tiny-{architecture}")


def save(folder: Path, architecture: str = "bert") -> Path:
    """Save a tiny encoder and its tokenizer as a Hub-format directory."""
    model(architecture).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
