"""Adapters that PEFT has saved, read as LoRA factors: a start for whatever trains LoRA here."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.models.adapters.lora import MAGNITUDE, LoraSpec, adapted_modules
from icl.models.loading.identity import files_digest

if TYPE_CHECKING:
    from torch import Tensor

    from icl.models.backbone import Backbone

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# what PEFT, transformers and training loops put around the same layers, from version to version
_AROUND = ("base_model", "model", "module", "_orig_mod", "_fsdp_wrapped_module", "language_model")
_HEADS = ("classifier", "score")  # of another task; every task gets a head of its own here
# what makes an adapter more than a sum of B A on frozen weights; `icl merge` knows it through PEFT
_MORE = (
    "alpha_pattern", "alora_invocation_tokens", "layer_replication", "lora_bias", "rank_pattern",
    "target_parameters", "trainable_token_indices", "use_qalora",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """A LoRA adapter's directory and what its configuration says.

    Attributes:
        name: what the user calls it.
        folder: where its two files lie.
        rank, alpha, variant: see `LoraSpec`.
        base: the model that it was made for; empty where it does not say.
    """

    name: str
    folder: Path
    rank: int
    alpha: float
    variant: str
    base: str


def adapter_folder(name: str) -> Path:
    """Return the directory of an adapter, fetched from the Hub where it is an id.

    Raises:
        IclError: it is not there, or its weights are in no safetensors file: pickles are not read.
    """
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise IclError(f"The adapter's directory {name!r} does not exist; check the path.")
    if not folder.is_dir():
        folder = _fetched(name)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise IclError(f"The adapter {name!r} has no {file}; save it anew with PEFT.")
    return folder


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200]
        raise IclError(
            f"The adapter {name!r} cannot be fetched: {reason}; give a directory or a Hub id."
        ) from error


def open_adapter(name: str) -> PeftAdapter:
    """Read an adapter's configuration; its weights are not touched.

    Raises:
        IclError: it is not there, or is no plain LoRA adapter.
    """
    folder = adapter_folder(name)
    try:
        said: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
        peft_type, rank, alpha = said["peft_type"], int(said["r"]), float(said["lora_alpha"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise IclError(
            f"The adapter {name!r} has no readable LoRA configuration in {CONFIG}; save it anew"
            " with PEFT."
        ) from error
    more = [field for field in _MORE if said.get(field)]
    if said.get("bias", "none") != "none":
        more.append("bias")
    if str(said.get("init_lora_weights")).startswith(("pissa", "olora", "corda", "loftq")):
        more.append("init_lora_weights")  # these move the base's weights too
    more += ["modules_to_save"] if set(said.get("modules_to_save") or ()) - {*_HEADS} else []
    if peft_type != "LORA" or more:
        made = f"made with {' and '.join(more)}"
        what = f"of the kind {peft_type}" if peft_type != "LORA" else made
        raise IclError(
            f"The adapter {name!r} is {what}, from which no learner can start as it is; merge it"
            " into its base with `icl merge`, and start from that model."
        )
    variant = "dora" if said.get("use_dora") else "rslora" if said.get("use_rslora") else "lora"
    base = said.get("base_model_name_or_path") or ""
    return PeftAdapter(name, folder, rank, alpha, variant, base)


def check_fits(adapter: PeftAdapter, spec: LoraSpec) -> None:
    """Raise `IclError` where a learner is configured for another rank, scale or variant."""
    asked = {"rank": spec.rank, "alpha": spec.alpha, "variant": spec.variant}
    held = {"rank": adapter.rank, "alpha": adapter.alpha, "variant": adapter.variant}
    if asked != held:
        mend = ", ".join(f"`{k}: {_plain(v)}`" for k, v in held.items() if v != asked[k])
        told = ", ".join(f"{k} {_plain(v)}" for k, v in asked.items() if v != held[k])
        raise IclError(f"The adapter {adapter.name!r} does not fit {told}; set {mend}.")


def adapter_digest(folder: Path) -> str:
    """Hash an adapter's two files: 16 hexadecimal digits; raises `IclError` where it cannot."""
    return files_digest({file: folder / file for file in (CONFIG, WEIGHTS)})[:16]


def start_factors(
    backbone: Backbone, spec: LoraSpec, name: str, *, any_modules: bool
) -> dict[str, Tensor]:
    """Read an adapter as LoRA factors of a backbone: float32, no task axis.

    Args:
        backbone: the model that is adapted.
        spec: what the learner is configured for.
        name: the adapter's directory or Hub id.
        any_modules: take the adapted modules from the adapter; else they must be the spec's.

    Raises:
        IclError: the adapter is not there, is no plain LoRA adapter, or does not fit the spec or
            the model.
    """
    adapter = open_adapter(name)
    check_fits(adapter, spec)
    found, extra = _by_module(backbone, adapter)
    if any_modules:
        names = tuple({module.rsplit(".", 1)[-1] for module in found})
        known = adapted_modules(backbone, LoraSpec(targets=_linear(backbone, names)))
    else:
        known = adapted_modules(backbone, spec)
    strange = [*extra, *(module for module in found if any_modules and module not in known)]
    if strange:
        raise IclError(
            f"The adapter {name!r}{_made_for(adapter)} has weights for {told_keys(strange)}, no"
            f" linear map in a layer of {backbone.name!r}; take the model that it was made for, or"
            " merge the two with `icl merge`."
        )
    lacking = [module for module in _meant(backbone, adapter) if module not in found]
    if found and lacking:
        raise IclError(
            f"The adapter {name!r} has no weights for {told_keys(lacking)}, which its {CONFIG} says"
            " it adapts; save it anew with PEFT."
        )
    if not any_modules and set(found) != set(known):
        raise IclError(
            f"The adapter {name!r} adapts {_told(found)}, and the learner is to adapt"
            f" {_told(known)}; drop `targets` and `top_layers`, which then are the adapter's."
        )
    factors: dict[str, Tensor] = {}
    for module in (module for module in known if module in found):
        in_size, out_size = known[module]
        wanted: dict[str, tuple[int, ...]] = {
            "lora_A": (adapter.rank, in_size),
            "lora_B": (out_size, adapter.rank),
        }
        if adapter.variant == "dora":
            wanted[MAGNITUDE] = (out_size,)
        for part, shape in wanted.items():
            value = found[module].get(part)
            if value is None or tuple(value.shape) != shape:
                has = "none" if value is None else list(value.shape)
                raise IclError(
                    f"The adapter {name!r}{_made_for(adapter)} does not fit {backbone.name!r}:"
                    f" {part} of {module!r} has shape {has} instead of {list(shape)}; take the"
                    " model that it was made for."
                )
            factors[f"{module}.{part}"] = value.float().to(backbone.device)
    warn_of_other_base(name, adapter.base, backbone.name, "starts on")
    return factors


def warn_of_other_base(adapter: str, base: str, model: str, does: str) -> None:
    """Warn where an adapter names another base model than the one that it is put on."""
    from icl.models.loading.named import model_path

    if base and Path(base).name not in (Path(model).name, Path(model_path(model)).name):
        warnings.warn(
            f"The adapter {adapter!r} was made for {base!r} and {does} {model!r}; its shapes fit,"
            " whether its weights do is yours to know.",
            stacklevel=3,
        )


def read_tensors(name: str, folder: Path) -> dict[str, Tensor]:
    """Read an adapter's weights; raises `IclError` where the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise IclError(
            f"The adapter {name!r} has a damaged {WEIGHTS}; save it anew with PEFT."
        ) from error


def bare(name: str, inner: str) -> str:
    """Return a tensor's or module's name without what wraps the layers and names the adapter.

    >>> bare("base_model.model.model.language_model.layers.0.mlp.lora_A.default.weight", "model")
    'layers.0.mlp.lora_A.weight'

    Args:
        name: the name in a file or a model.
        inner: the model's own prefix of its layers, such as ``transformer`` or ``bert``.
    """
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in (*_AROUND, inner):
        del parts[0]
    return ".".join(part for part in parts if part != "default")


def is_head(name: str) -> bool:
    """Tell whether a bare name is that of a classification head: another task's."""
    parts = name.split(".")
    return parts[0] in _HEADS or (len(parts) > 1 and parts[-2] in _HEADS)


def told_keys(keys: Sequence[str]) -> str:
    """Name the first three of some keys, and how many more there are."""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(repr(key) for key in keys[:3]) + more


def _by_module(
    backbone: Backbone, adapter: PeftAdapter
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Return an adapter's tensors by this model's modules, and the names that are no factors."""
    inner = str(getattr(backbone.model, "base_model_prefix", ""))
    # the same layers under a head (`model.layers`) and without one (`layers`)
    modules = {bare(name, inner): name for name, _ in backbone.model.named_modules()}
    found: dict[str, dict[str, Tensor]] = {}
    extra = []
    for name, value in read_tensors(adapter.name, adapter.folder).items():
        path = bare(name, inner)
        module, _, part = path.removesuffix(".weight").rpartition(".")
        own = modules.get(module, module)
        if part in ("lora_A", "lora_B", MAGNITUDE) and part not in found.get(own, {}):
            found.setdefault(own, {})[part] = value
        elif not is_head(path):
            extra.append(name)
    return found, extra


def _meant(backbone: Backbone, adapter: PeftAdapter) -> list[str]:
    """Return the linear maps of this model's layers that the adapter says it adapts."""
    from peft import PeftConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    from icl.models.backbone import is_linear

    config = PeftConfig.from_pretrained(str(adapter.folder))
    inner = str(getattr(backbone.model, "base_model_prefix", ""))
    linear = [
        f"{layer_name}.{name}"
        for layer_name, layer in zip(backbone.layer_names, backbone.layers, strict=True)
        for name, module in layer.named_modules()
        if is_linear(module)
    ]
    return [
        module
        for module in linear
        if any(
            check_target_module_exists(config, shape)
            for shape in {module, bare(module, inner), f"{inner}.{bare(module, inner)}"}
        )
    ]


def _linear(backbone: Backbone, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those last parts of names that some linear map in a layer has."""
    from icl.models.backbone import is_linear

    own = {
        path.rsplit(".", 1)[-1]
        for layer in backbone.blocks.values()
        for path, module in layer.named_modules()
        if is_linear(module)
    }
    return tuple(name for name in names if name in own)


def _made_for(adapter: PeftAdapter) -> str:
    return f", made for {adapter.base!r}," if adapter.base else ""


def _told(modules: Mapping[str, object]) -> str:
    last = sorted({module.rsplit(".", 1)[-1] for module in modules})
    return f"{', '.join(last)} in {len(modules)} places"


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
