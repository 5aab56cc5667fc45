"""Tiny randomly initialised models and a tokenizer, made on the spot: no network, no files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from icl.models.backbone import Backbone
from icl.models.packed import attention

_CORPUS = [
    "Word: January\nKind: month", "Word: Montag\nKind: weekday", "organ organic organism",
    "Text: the cat sat on the mat\nTopic: animals", "слово вид 月曜日 كلمة शब्द",
]  # fmt: skip


@lru_cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that adds BOS; merges cross the prompt-label boundary."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(_CORPUS, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "head_dim": 8,
}

CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**_SIZES),
    "qwen2": Qwen2Config(**_SIZES),
    "mistral-sliding": MistralConfig(**_SIZES, sliding_window=8),
    "gemma2-softcap": Gemma2Config(
        **_SIZES, sliding_window=8, final_logit_softcapping=3.0, attn_logit_softcapping=2.0
    ),
    "gemma3-hybrid": Gemma3TextConfig(**_SIZES, sliding_window=8, query_pre_attn_scalar=8),
    "gpt2": GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=512),
    "gpt-neox": GPTNeoXConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
    ),
}

_FACTORS = {"short_factor": [1.0, 1.0], "long_factor": [2.0, 8.0]}
# Models whose rotary positions depend on the length of the text: they switch behind 18 tokens.
BY_LENGTH: dict[str, Any] = {
    "phi3-longrope": Phi3Config(
        **{k: v for k, v in _SIZES.items() if k != "head_dim"},
        original_max_position_embeddings=18,
        rope_scaling={"type": "longrope", **_FACTORS},
        partial_rotary_factor=0.5,
    ),
    "llama-dynamic": LlamaConfig(
        **(_SIZES | {"max_position_embeddings": 18}),
        rope_scaling={"type": "dynamic", "factor": 4.0},
    ),
    "gemma3-by-layer": Gemma3TextConfig(
        **(_SIZES | {"max_position_embeddings": 18}),
        sliding_window=8,
        query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
            "full_attention": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "original_max_position_embeddings": 30,
                "short_factor": [1.0] * 4,
                "long_factor": [2.0, 4.0, 6.0, 8.0],
                "factor": 4.0,
            },
        },
    ),
}

# Widths in blocks of 64, which 4-bit weights come in.
_WIDE = LlamaConfig(**(_SIZES | {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}))


def model(architecture: str = "llama", implementation: str | None = None) -> Any:
    """A tiny model with weights large enough that its predictions differ clearly."""
    chosen = _WIDE if architecture == "llama-wide" else (CONFIGS | BY_LENGTH)[architecture]
    config = type(chosen).from_dict(chosen.to_dict())
    config.vocab_size = len(tokenizer())
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 0, 1, 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(config, attn_implementation=implementation)
        for parameter in made.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    return made


def backbone(architecture: str = "llama") -> Backbone:
    """A tiny backbone, ready to score."""
    return Backbone(model(architecture, attention.register()), tokenizer(), f"tiny-{architecture}")


def save(folder: Path, architecture: str = "llama") -> Path:
    """Save a tiny model and its tokenizer as a Hub-format directory."""
    model(architecture).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
