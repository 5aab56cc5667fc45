"""Any PEFT adapter as a start: merged into its base model, it is a model like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icl.errors import IclError


def merge_adapter(model: str, adapter: str, out: Path, *, revision: str | None = None) -> Path:
    """Write a base model with a PEFT adapter merged into its weights, and its tokenizer.

    The directory can be prompted, embedded, fine-tuned and meta-trained like any model: every
    learner then starts from the adapter.

    Args:
        model: the base: a Hub id, a directory or a packaged model.
        adapter: a directory or Hub id in PEFT's format, such as `icl.export.export_learner` writes.
        out: the directory to make; it must not exist, or be empty.
        revision: a Hub revision of the base.

    Returns:
        `out`.

    Raises:
        IclError: base or adapter cannot be read, do not fit together, or cannot be merged; or the
            directory is in use or cannot be written.
    """
    from peft import PeftModel
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from icl.models.loading import check_weights, is_encoder, load_tokenizer, model_path
    from icl.models.peft_adapter import CONFIG, adapter_folder

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
        adapted = PeftModel.from_pretrained(base, str(folder))
        merged = adapted.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise IclError(f"{adapter!r} cannot be merged into {model!r}: {reason}.") from error
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
