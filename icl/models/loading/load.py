"""Loading a backbone by name: a Hub id, a local directory, or a packaged model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from icl.errors import IclError, did_you_mean
from icl.models.backbone import Backbone
from icl.models.embedding.sentence import fetch_modules
from icl.models.encoder import Encoder
from icl.models.encoder import register as register_encoder_attention
from icl.models.loading.complete import (
    check_complete,
    check_model,
    check_tokenizer,
    check_vocabulary,
    check_weights,
    judged_here,
)
from icl.models.loading.identity import find_origin
from icl.models.loading.named import faults_told, model_path
from icl.models.loading.self_check import (
    check_answers,
    check_causal,
    check_encoder,
    check_packing,
    has_stages,
)
from icl.models.packed import attention
from icl.models.scoring.plain import PlainBackbone
from icl.models.seq2seq import Seq2Seq
from icl.models.weights.devices import check_device, check_map
from icl.models.weights.quantised import Bits, prepare, quantised_options
from icl.tools.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXT = r"^model\.language_model\."  # where a multimodal model's text part has its weights
_NO_ROAD = (ValueError, NotImplementedError, KeyError, AttributeError)
_BY_ITSELF = "Each prompt and label runs alone, which is slow."
_BY_LENGTH = "Texts of one length run together, through all layers, which is slower."
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_backbone(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str | None = None,
    device_map: str | Mapping[str, int | str] | None = None,
    quantise: Bits | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load a model and its tokenizer, ready for exact scoring.

    Decoders run packed; one whose attention cannot be packed falls back to whole passes and says
    so. Encoders come as `Encoder`, encoder-decoder models as `Seq2Seq`.

    Args:
        name: a Hub id, a local directory, or one of `icl.models.packaged.catalogue.PACKAGED`.
        revision: a Hub revision.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: a torch device; by default CUDA where there is one, else the CPU.
        device_map: lay the layers of a causal model over several devices, main memory (``cpu``)
            and disk, as accelerate does; ``auto`` fills the devices in turn.
        quantise: hold the layers' linear maps in ``4bit`` or ``8bit``, see
            `icl.models.weights.quantised`.
        trust_remote_code: let the repository's own Python code run.

    Raises:
        IclError: the model is unknown, cannot be read, or cannot be run exactly.
    """
    from transformers import AutoConfig

    if dtype not in _DTYPES:
        raise IclError(f"The dtype {dtype!r} is unknown." + did_you_mean(dtype, _DTYPES))
    path = model_path(name)
    check_model(name, Path(path))
    check_weights(name, path, revision)
    if trust_remote_code:
        warnings.warn(
            f"`trust_remote_code` is set: Python code from the repository {name!r} runs on this"
            " machine with all your rights.",
            stacklevel=2,
        )
    origin_of = partial(
        find_origin, name, dtype=dtype, quantise=quantise, trust_remote_code=trust_remote_code
    )
    fetched = not Path(path).is_dir()
    # before anything is read, so that what changes meanwhile is seen
    origin = None if fetched else origin_of()
    tokenizer = load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
    where = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    options = {
        "revision": revision,
        "dtype": _DTYPES[dtype],
        "trust_remote_code": trust_remote_code,
        "use_safetensors": True,
        **({} if quantise is None else quantised_options(quantise, _DTYPES[dtype], where)),
        **({} if device_map is None else {"device_map": device_map}),
    }
    # Where weights come from the Hub, its bars show on a terminal.
    first = os.environ.get("RANK", "0") == "0"
    with (
        faults_told(name),
        judged_here(),
        progress("Loading the model", shown=first, counted=False, live=False) as bar,
    ):
        bar.say(name)
        config = AutoConfig.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
        check_vocabulary(name, tokenizer, config)
        if device_map is not None and (config.is_encoder_decoder or is_encoder(config)):
            raise IclError(f"`device_map` is for causal models, and {name!r} is none; drop it.")
        if quantise is not None and getattr(config, "quantization_config", None) is not None:
            raise IclError(f"The model {name!r} was saved in few bits already; drop `quantise`.")
        if isinstance(device_map, Mapping):
            check_map(device_map, _without_weights(config, trust_remote_code), quantise)
        backbone = _wrapped(config, path, options, where, tokenizer, name)
    if fetched:
        commit = getattr(config, "_commit_hash", None)
        with faults_told(name):
            fetch_modules(name, commit or revision)
        origin = origin_of(revision=commit or revision)
    backbone.comes_from(origin)
    return backbone


def _wrapped(
    config: Any,
    path: str,
    options: Mapping[str, Any],
    where: torch.device,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
) -> Backbone:
    """Load a model and put it under the hand of icl."""
    if config.is_encoder_decoder:
        model = _model("ForSeq2SeqLM", path, options, where, "eager")
        decoder = Seq2Seq(model, tokenizer, name)
        check_answers(decoder)
        return decoder
    if is_encoder(config):
        try:
            encoder = _model("", path, options, where, register_encoder_attention())
            found = Encoder(encoder, tokenizer, name)
            check_encoder(found)
        except (IclError, *_NO_ROAD) as error:
            # no better where the files are at fault: it says why
            found = Encoder(_model("", path, options, where, "eager"), tokenizer, name, True)
            check_encoder(found)
            warnings.warn(_falls_back(name, error, _BY_LENGTH), stacklevel=3)
        return found
    head = _head(config)
    try:
        packed = _model(head, path, options, where, attention.register())
        backbone = Backbone(packed, tokenizer, name)
        check_packing(backbone)
        backbone.staged = has_stages(backbone)
    except (IclError, *_NO_ROAD) as error:
        plain = _model(head, path, options, where, None)  # no better: it says why
        backbone = PlainBackbone(plain, tokenizer, name)
        check_causal(backbone)
        warnings.warn(_falls_back(name, error, _BY_ITSELF), stacklevel=3)
    return backbone


def _model(
    head: str, path: str, options: Mapping[str, Any], where: torch.device, kernel: str | None
) -> Any:
    """Load a model with one of transformers' automatic classes and attention kernels."""
    import transformers

    loader = getattr(transformers, f"AutoModel{head}")
    options = {**options, **({} if kernel is None else {"attn_implementation": kernel})}
    try:
        model, read = loader.from_pretrained(path, output_loading_info=True, **options)
    except ImportError:  # Gemma 3n's tower for images needs a library that its text part does not
        named = ("revision", "trust_remote_code")
        config = transformers.AutoConfig.from_pretrained(path, **{n: options[n] for n in named})
        if config.get_text_config() is config:
            raise
        options |= {"config": config.get_text_config(), "key_mapping": {_TEXT: "model."}}
        model, read = loader.from_pretrained(path, output_loading_info=True, **options)
    check_complete(model, sorted(read["missing_keys"]))
    if getattr(model, "is_quantized", False):
        prepare(model)
        return model  # which cannot be moved
    return model if "device_map" in options else model.to(where)


def _without_weights(config: Any, trust_remote_code: bool) -> Any:
    """Return a causal model's modules by their names."""
    import transformers

    loader: Any = getattr(transformers, f"AutoModel{_head(config)}")
    with torch.device("meta"):
        return loader.from_config(config, trust_remote_code=trust_remote_code)


def _head(config: Any) -> str:
    """Return the automatic class that loads a decoder: a multimodal one has its own."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if type(config) in AutoModelForCausalLM._model_mapping:
        return "ForCausalLM"
    multimodal = type(config) in AutoModelForImageTextToText._model_mapping
    return "ForImageTextToText" if multimodal else "ForCausalLM"  # which says what is wrong


def _falls_back(name: str, error: Exception, instead: str) -> str:
    why = f"The model {name!r} takes no attention but its own."
    return f"{error if isinstance(error, IclError) else why} {instead}"


def is_encoder(config: Any) -> bool:
    """Tell whether a transformers configuration is that of an encoder without a decoder."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    decodes = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    return config.model_type in MASKED and not decodes


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer, without the model; arguments and errors as `load_backbone`.

    A directory to which only the tokenizer was saved is enough.
    """
    from transformers import AutoTokenizer

    path = model_path(name)
    check_tokenizer(name, Path(path))
    with faults_told(name):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code
        )
    return tokenizer
