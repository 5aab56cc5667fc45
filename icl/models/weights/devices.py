"""Where a model's weights lie: on one device, on several, or somewhere to be fetched from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from icl.errors import IclError, did_you_mean, in_short


def first_device(module: nn.Module) -> torch.device | None:
    """Return where a module's first weight lies, or None where all are fetched when needed."""
    return next((p.device for p in module.parameters() if p.device.type != "meta"), None)


def devices(model: nn.Module) -> set[torch.device]:
    """Return where a model's weights lie, but for those that are fetched when needed."""
    return {p.device for p in model.parameters() if p.device.type != "meta"}


def is_fetched(module: nn.Module) -> bool:
    """Tell whether a module's own weights are only there while it runs."""
    return any(p.device.type == "meta" for p in module.parameters(recurse=False))


def all_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a model's tensors by name, sorted; those that are fetched are read one at a time."""
    modules = dict(model.named_modules())
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.device.type != "meta":
            yield name, tensor
            continue
        owner, _, own = name.rpartition(".")
        with at_hand(modules[owner]):
            yield name, getattr(modules[owner], own)


@contextmanager
def at_hand(module: nn.Module) -> Iterator[None]:
    """Fetch a module's own weights for as long as the block runs, where they are not at hand."""
    if not is_fetched(module):
        yield
        return
    from accelerate.utils import align_module_device  # type: ignore[import-untyped]

    with align_module_device(module):
        yield


def check_device(name: str) -> torch.device:
    """Return a device that tensors can lie on here; raises `IclError` for any other name."""
    try:
        device = torch.device(name)
        if device.type != "meta":
            torch.empty(0, device=device)
            return device
        reason = "it holds no numbers"
    except (RuntimeError, AssertionError) as error:
        reason = in_short(error)[:120]
    raise IclError(
        f"The device {name!r} cannot be used here ({reason}); `icl doctor` lists what there is."
    )


def check_map(
    places: Mapping[str, int | str], model: nn.Module, quantise: str | None = None
) -> None:
    """See to it that a `device_map` names places that are there, for all of a model and no more.

    Args:
        places: the map, module or tensor by name; ``""`` is the whole model.
        model: the model, on whatever device.
        quantise: as which its weights are held, which are then not fetched from elsewhere.

    Raises:
        IclError: it does not.
    """
    for place in places.values():
        if place != "disk":
            check_device(f"cuda:{place}" if isinstance(place, int) else place)
    kinds = set(places.values())
    if quantise is not None and ("disk" in kinds or {"cpu"} < kinds):
        raise IclError(
            "`quantise` holds weights where they are multiplied, and `device_map` names `cpu` or"
            " `disk` to fetch some from; drop one of the two."
        )
    modules = {name for name, _ in model.named_modules()}
    tensors = set(model.state_dict())
    for name in places:
        if name not in modules and name not in tensors:
            told = did_you_mean(name, sorted(modules - {""}))
            raise IclError(f"`device_map` names {name!r}, which the model does not have.{told}")
    tied = {id(p) for n, p in model.named_parameters() if _placed(n, places)}
    left = [
        name
        for name, tensor in model.named_parameters(remove_duplicate=False)
        if not _placed(name, places) and id(tensor) not in tied
    ]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise IclError(f"`device_map` has no place for {left[0]!r}{more}; add one for each.")


def _placed(name: str, places: Mapping[str, int | str]) -> bool:
    return "" in places or any(name == key or name.startswith(f"{key}.") for key in places)
