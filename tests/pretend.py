"""A pretend device: tensors that live on the CPU, say otherwise, and refuse to mix with others.

Where there is one processor, this is how code for several devices is run with real numbers: an
operation on tensors of both devices is an error, as it is with a GPU, and `to` moves. torch knows
one such device a process, and keeps knowing it: tests run it in a process of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "pretend"
DEVICE = f"{NAME}:0"


class Placed(torch.Tensor):
    """A tensor that says it is on a pretend device; `inner` has its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(
        cls,
        inner: torch.Tensor,
        device: torch.device | str = DEVICE,
        requires_grad: bool = False,
    ) -> Placed:
        """Wrap a CPU tensor; what is wrapped stays as it is, as for `torch.nn.Parameter`."""
        if isinstance(inner, Placed):
            return inner
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
            requires_grad=requires_grad,
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        """Return the values."""
        return self.inner.tolist()

    def __format__(self, spec: str) -> str:
        """Show the values."""
        return format(self.inner, spec)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on the values."""
        return _run(func, args, kwargs or {})


class _Pretend(TorchDispatchMode):
    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    wanted = kwargs.get("device")
    moves = wanted is not None
    if moves:
        kwargs = kwargs | {"device": "cpu"}
    # copies and numbers may cross, as everywhere in torch
    crosses = func in {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
    places = {t.device for t in tensors if t.dim() or t.device.type == NAME}
    if len(places) > 1 and not crosses:
        raise RuntimeError(f"{func} on {sorted(map(str, places))}")
    home = torch.device(wanted) if moves else tensors[0].device if tensors else torch.device("cpu")
    if not moves and not crosses and places:
        (home,) = places
    plain = tree_map_only(Placed, lambda t: t.inner, (args, kwargs))
    out = func(*plain[0], **plain[1])
    if func._schema.name.endswith("_") and isinstance(args[0], torch.Tensor):
        return args[0]  # done in place
    if home.type != NAME:
        return out
    return tree_map_only(torch.Tensor, lambda t: Placed(t, home), out)


@cache
def _register() -> None:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)


@contextmanager
def device() -> Iterator[None]:
    """Make ``pretend:0`` usable in the block."""
    _register()
    with _Pretend():
        yield
