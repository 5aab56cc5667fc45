"""Tiny random models of many architectures, with a tokenizer made on the spot: no network.

Each is made from its own configuration class in transformers, whose sizes are made small, with
weights large enough that predictions differ clearly. `KINDS` names the architectures as the Hub's
`model_type` does, by family, the most downloaded first as far as that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

_CORPUS = [
    "Word: January\nKind: month", "Word: Montag\nKind: weekday", "organ organic organism",
    "Text: the cat sat on the mat\nTopic: animals",
]  # fmt: skip
DECODERS = """
qwen2 qwen3 llama gpt2 gemma3_text mistral opt phi3 gemma2 gemma qwen3_moe gpt_oss gpt_neox
deepseek_v3 phi mixtral qwen3_5_text qwen3_next bloom falcon gpt_neo gptj smollm3 lfm2 granite
granitemoehybrid olmo2 olmo3 olmo olmoe stablelm starcoder2 gpt_bigcode codegen cohere cohere2
glm4 glm glm4_moe exaone4 ministral3 ministral mamba mamba2 falcon_mamba falcon_h1 jamba bamba
zamba2 nemotron nemotron_h seed_oss apertus llama4_text gemma3n_text gemma4_text qwen2_moe
deepseek_v2
hunyuan_v1_dense ernie4_5 minicpm3 arcee helium nanochat mpt xglm biogpt persimmon recurrent_gemma
modernbert-decoder openai-gpt granitemoe vaultgemma bitnet
"""
ENCODERS = """
bert roberta xlm-roberta distilbert mpnet deberta-v2 electra modernbert camembert albert deberta
nomic_bert gte jina_embeddings_v3 eurobert esm longformer convbert roformer squeezebert mobilebert
ernie megatron-bert rembert roberta-prelayernorm xlm-roberta-xl data2vec-text xmod ibert
nystromformer big_bird flaubert xlm fnet
"""
ENCODER_DECODERS = """
t5 bart m2m_100 marian pegasus mt5 umt5 mbart t5gemma t5gemma2 blenderbot led longt5
switch_transformers nllb-moe pegasus_x prophetnet plbart bigbird_pegasus fsmt mvp
"""
MULTIMODAL = """
gemma3 qwen2_5_vl qwen3_vl gemma4 qwen2_vl qwen3_5 gemma3n mistral3 llava paligemma llama4 smolvlm
idefics3 internvl llava_next llava_onevision mllama qwen3_vl_moe lfm2_vl aya_vision cohere2_vision
glm4v
"""
KINDS: dict[str, str] = {
    **dict.fromkeys(DECODERS.split(), "decoder"),
    **dict.fromkeys(ENCODERS.split(), "encoder"),
    **dict.fromkeys(ENCODER_DECODERS.split(), "encoder-decoder"),
    **dict.fromkeys(MULTIMODAL.split(), "multimodal"),
}

# sizes by the names that configurations give them; each takes those that it has
_SIZES: dict[str, Any] = {
    name: size
    for size, names in {
        32: "hidden_size d_model dim n_embd emb_dim word_embed_proj_dim d_embed embed_dim"
        " image_size",
        48: "intermediate_size d_ff ffn_dim hidden_dim encoder_ffn_dim decoder_ffn_dim"
        " ffn_hidden_size shared_intermediate_size intermediate_size_mlp",
        24: "moe_intermediate_size shared_expert_intermediate_size",
        2: "encoder_layers decoder_layers num_key_value_heads num_kv_heads n_kv_heads depth"
        " num_experts_per_tok moe_top_k moe_k",
        4: "num_attention_heads num_heads n_heads n_head encoder_attention_heads"
        " decoder_attention_heads num_hidden_layers num_layers n_layers n_layer num_decoder_layers"
        " num_experts num_local_experts n_routed_experts moe_num_experts"
        " qk_rope_head_dim mamba_n_heads mamba_num_heads",
        1: "n_groups mamba_n_groups mamba_ngroups",
        8: "head_dim d_kv sliding_window query_pre_attn_scalar qk_nope_head_dim v_head_dim"
        " patch_size window_size mamba_d_state state_size ssm_state_size",
        16: "q_lora_rank kv_lora_rank embedding_size mamba_d_head",
        64: "mamba_d_ssm",
        320: "vocab_size_per_layer_input",
        512: "max_position_embeddings n_positions n_ctx max_seq_len",
    }.items()
    for name in names.split()
}
# what else an architecture needs to be small, or to show what is particular about it
_ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_MROPE = {"rope_parameters": _ROPE}
_MORE: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 0.5, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 2.0},
    "cohere2": {"logit_scale": 2.0},
    "deepseek_v2": {"head_dim": 4, "num_key_value_heads": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {
        "head_dim": 4,
        "num_key_value_heads": 4,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "minicpm3": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "ministral": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2},
    "mamba2": {"num_heads": 8},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3]},
    "gemma3n_text": {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "laurel_rank": 4},
    "gemma4_text": {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8},
    "gemma4": {"text_config": {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8}},
    "squeezebert": {"embedding_size": 32},
    "xmod": {"default_language": "en_XX"},
    "qwen2_vl": {"text_config": _MROPE},
    "qwen2_5_vl": {"text_config": _MROPE},
    "glm4v": {"text_config": _MROPE},
}
_LOADERS: dict[str, Any] = {
    "decoder": AutoModelForCausalLM,
    "encoder": AutoModel,
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "multimodal": AutoModelForImageTextToText,
}
# its tower for images is of a library that may not be there; a checkpoint's text part is made alone
_TEXT_ALONE = {"gemma3n": "gemma3n_text"}
_STARTS_UNSAID = ("mbart", "t5gemma", "t5gemma2")  # then `generate` begins with BOS
_TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


@lru_cache
def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with a family's special tokens; merges cross boundaries."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<pad>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(_CORPUS, trainer)
    form = {"encoder": "<s> $A </s>", "encoder-decoder": "$A </s>"}.get(kind, "<s> $A")
    raw.post_processor = processors.TemplateProcessing(
        single=form, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        mask_token="<mask>", model_max_length=256,
    )  # fmt: skip


def config(name: str) -> Any:
    """Return a tiny configuration of an architecture."""
    cls = CONFIG_MAPPING[name]
    made = cls(**_tiny(cls(), _MORE.get(name, {})))
    _with_tokens(made, {**_TOKENS, "vocab_size": len(tokenizer(KINDS[name]))})
    if made.is_encoder_decoder and name not in _STARTS_UNSAID:
        made.decoder_start_token_id = _TOKENS["pad_token_id"]
    return made


def _with_tokens(whole: PreTrainedConfig, fields: Mapping[str, int]) -> None:
    for name, value in fields.items():
        setattr(whole, name, value)
    for part in vars(whole).values():
        if isinstance(part, PreTrainedConfig):
            _with_tokens(part, fields)


def _tiny(whole: PreTrainedConfig, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a configuration that make it tiny, nested as it is."""
    said = whole.to_dict()
    found = {k: v for k, v in _SIZES.items() if said.get(whole.attribute_map.get(k, k)) is not None}
    for name, part in vars(whole).items():
        if isinstance(part, PreTrainedConfig):
            found[name] = {"model_type": part.model_type, **_tiny(part, more.get(name, {}))}
    if said.get("layer_types"):
        kinds = list(dict.fromkeys(said["layer_types"]))
        found["layer_types"] = [kinds[i % len(kinds)] for i in range(_SIZES["num_hidden_layers"])]
    return {**found, **{k: v for k, v in more.items() if not isinstance(found.get(k), dict)}}


def model(name: str) -> Any:
    """Return a tiny model with transformers' plain attention, in eval mode."""
    name = _TEXT_ALONE.get(name, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = _LOADERS[KINDS[name]].from_config(config(name), attn_implementation="eager")
        computed = {  # tables that are no weights: they are made anew when a model is loaded
            id(getattr(module, "weight", None))
            for module in made.modules()
            if "Sinusoidal" in type(module).__name__
        }
        for parameter in made.parameters():
            if parameter.ndim >= 2 and id(parameter) not in computed:
                torch.nn.init.normal_(parameter, std=0.02 if name == "mobilebert" else 0.2)
    return made.train(False)


def save(name: str, made: Any, folder: Path) -> None:
    """Save a model and its tokenizer as a Hub-format directory."""
    tokenizer(KINDS[name]).save_pretrained(folder)
    if name not in _TEXT_ALONE:
        made.save_pretrained(folder)
        return
    CONFIG_MAPPING[name](text_config=made.config.to_dict()).save_pretrained(folder)
    weights = {
        f"model.language_model.{path.removeprefix('model.')}": value.contiguous()
        for path, value in made.state_dict().items()
        if not path.startswith("lm_head.")
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
