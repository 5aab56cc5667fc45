"""Any PEFT adapter as a start: merged into its base model, it is a model like any other."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError

if TYPE_CHECKING:
    from torch import Tensor

_NAME = "icl_merged"  # of the adapter while it is merged; no module's name


def merge_adapter(model: str, adapter: str, out: Path, *, revision: str | None = None) -> Path:
    """Write a base model with a PEFT adapter merged into its weights, and its tokenizer.

    The directory can be prompted, embedded, fine-tuned and meta-trained like any model: every
    learner then starts from the adapter. Every key of the adapter is used, or it is refused; of a
    base whose embeddings are tied to its output, an adapter that changes one of them is merged
    into weights of its own, and the new model's configuration no longer ties them.

    Args:
        model: the base: a Hub id, a directory or a packaged model.
        adapter: a directory or Hub id in PEFT's format, such as
            `icl.exchange.adapter.export_learner` writes.
        out: the directory to make; it must not exist, or be empty.
        revision: a Hub revision of the base.

    Returns:
        `out`.

    Raises:
        IclError: base or adapter cannot be read, do not fit together, or cannot be merged; or the
            directory is in use or cannot be written.
    """
    from peft import PeftConfig, get_peft_model
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from icl.models.adapters.peft_adapter import (
        CONFIG,
        adapter_folder,
        read_tensors,
        warn_of_other_base,
    )
    from icl.models.loading.complete import check_weights
    from icl.models.loading.load import is_encoder, load_tokenizer
    from icl.models.loading.named import model_path

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise IclError(f"The directory {out} is not empty; give another.")
    folder = adapter_folder(adapter)
    tokenizer = load_tokenizer(model, revision=revision)
    path = model_path(model)
    check_weights(model, path, revision)
    # None would ask whether to run the repository's code
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        if json.loads((folder / CONFIG).read_text("utf-8")).get("megatron_config"):
            raise IclError(f"{adapter!r} names code for PEFT to import; save it without Megatron.")
        config = AutoConfig.from_pretrained(path, **options)
        kind: Any = AutoModel if is_encoder(config) else AutoModelForCausalLM
        if config.is_encoder_decoder:
            kind = AutoModelForSeq2SeqLM
        base = kind.from_pretrained(path, dtype="auto", use_safetensors=True, **options)
        names = set(base.state_dict())
        peft_config = PeftConfig.from_pretrained(str(folder))
        made_for = peft_config.base_model_name_or_path or ""
        peft_config.inference_mode = True
        with warnings.catch_warnings():
            # of bases that are tied, and of a base's other name: both are seen to here
            warnings.filterwarnings(
                "ignore", message="(?s).*(tie_word|base_model_name|fan_in_fan_out)"
            )
            adapted = get_peft_model(base, peft_config, adapter_name=_NAME)
        _untie(adapted, adapter)
        _fill(adapted, read_tensors(adapter, folder), adapter, model)
        merged = adapted.merge_and_unload(safe_merge=True)
        _settle_ties(merged, adapter)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise IclError(f"{adapter!r} cannot be merged into {model!r}: {reason}.") from error
    warn_of_other_base(adapter, made_for, model, "is merged into")
    if set(merged.state_dict()) != names:
        raise IclError(
            f"{adapter!r} is of a kind that does not merge into weights; give a LoRA adapter."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        merged.save_pretrained(out)
        tokenizer.save_pretrained(out)
    except OSError as error:
        raise IclError(f"Cannot write {out}: {error.strerror or error}.") from error
    return out


def _untie(adapted: Any, adapter: str) -> None:
    """Give each tensor that the adapter changes and another module shares a copy of its own."""
    from torch import nn

    places: dict[int, list[str]] = {}
    for name, value in adapted.named_parameters(remove_duplicate=False):
        places.setdefault(id(value), []).append(name)

    def changed(name: str) -> bool:  # rows of single tokens are changed in both at once
        base = ".base_layer." in name or ".original_module." in name
        return base and ".token_adapter." not in name

    for names in places.values():
        if len(names) < 2 or not any(map(changed, names)):
            continue
        if adapted.config.is_encoder_decoder:
            raise _tied(adapter)
        for name in names[1:]:
            module, _, leaf = name.rpartition(".")
            own = getattr(adapted.get_submodule(module), leaf)
            copy = nn.Parameter(own.detach().clone(), requires_grad=own.requires_grad)
            setattr(adapted.get_submodule(module), leaf, copy)


def _settle_ties(merged: Any, adapter: str) -> None:
    """Tie embeddings and output again where they are still equal; else say that they are not."""
    out, config = merged.get_output_embeddings(), merged.config
    if out is None or not getattr(config, "tie_word_embeddings", False):
        return
    into = merged.get_input_embeddings()
    if out.weight is into.weight:
        return
    if out.weight.equal(into.weight):
        out.weight = into.weight
        return
    if config.is_encoder_decoder:
        raise _tied(adapter)
    for each in (config, config.get_text_config()):
        each.tie_word_embeddings = False


def _tied(adapter: str) -> IclError:
    return IclError(
        f"{adapter!r} changes embeddings that its encoder-decoder base shares between its parts,"
        " which cannot be merged rightly; give an adapter of its layers."
    )


def _lacking(adapter: str, keys: Sequence[str]) -> IclError:
    from icl.models.adapters.peft_adapter import CONFIG, told_keys

    return IclError(
        f"{adapter!r} has no weights for {told_keys(keys)}, which its {CONFIG} says it adapts; save"
        " it anew with PEFT."
    )


def _fill(adapted: Any, tensors: Mapping[str, Tensor], adapter: str, model: str) -> None:
    """Load an adapter's weights, all of them, into a model that is wrapped for them.

    Raises:
        IclError: keys find no place, or places no key; names them.
    """
    from peft import get_peft_model_state_dict
    from peft.utils import set_peft_model_state_dict

    from icl.models.adapters.peft_adapter import CONFIG, bare, is_head, told_keys

    inner = str(getattr(adapted.get_base_model(), "base_model_prefix", ""))
    own = get_peft_model_state_dict(adapted, adapter_name=_NAME, save_embedding_layers=False)
    places: dict[str, list[str]] = {}
    for name in own:
        places.setdefault(bare(name, inner), []).append(name)
    given: dict[str, Tensor] = {}
    heads = []
    for name, value in tensors.items():
        if is_head(bare(name, inner)) and bare(name, inner) not in places:
            heads.append(name)
            continue
        found = places.get(bare(name, inner), [])
        place = name if name in own or len(found) != 1 else found[0]
        if place in given:
            raise IclError(f"{adapter!r} has {place!r} twice, under two names; save it anew.")
        given[place] = value
    try:
        read: Any = set_peft_model_state_dict(adapted, given, adapter_name=_NAME)
    except KeyError as error:
        raise _lacking(adapter, [str(error.args[0])]) from error
    strange = [name.replace(f".{_NAME}", "") for name in read.unexpected_keys]
    if strange:
        raise IclError(
            f"{adapter!r} has weights for {told_keys(strange)}, for which {model!r} has no place as"
            f" the adapter's {CONFIG} describes it; take the base that it was made for, or save it"
            " anew."
        )
    missing = set(read.missing_keys)
    parameters = dict(adapted.named_parameters(remove_duplicate=False))
    filled = {id(value) for name, value in parameters.items() if name not in missing}
    lacking = [
        name.replace(f".{_NAME}", "")
        for name in read.missing_keys
        if _NAME in name.split(".") and id(parameters.get(name)) not in filled
    ]
    if lacking:
        raise _lacking(adapter, lacking)
    if heads:
        warnings.warn(
            f"The adapter {adapter!r} holds the head of another task, {told_keys(heads)}, which is"
            " left out: every task gets a head of its own here.",
            stacklevel=3,
        )
