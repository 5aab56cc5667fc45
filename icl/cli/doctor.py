"""The command ``icl doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import typer

from icl.errors import IclError
from icl.processes.launch import cores
from icl.tools.cache import cache_dir
from icl.version import __version__

_MARKS = {"good": "ok  ", "note": "note", "bad": "BAD "}
Verdict = Literal["good", "note", "bad"]
_WANTED = 2_000_000_000  # bytes: the packaged Gemma and what converting it takes
_FROM_SOURCE = "icl runs from its source and is not installed: its extras are not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: what it belongs to, e.g. ``extras``.
        what: its name.
        found: what is there.
        verdict: ``good``; ``note`` for what is absent and may be; ``bad`` for what stops icl.
        mend: a command or a setting that helps; empty where nothing needs help.
    """

    area: str
    what: str
    found: str
    verdict: Verdict = "good"
    mend: str = ""


def doctor() -> None:
    """Say what this machine can do: devices, extras, caches, models; and what is missing.

    Exit code 1 where something that icl cannot do without is missing. Example: icl doctor
    """
    area, bad = "", 0
    for finding in examine():
        if finding.area != area:
            area = finding.area
            typer.echo(area)
        bad += finding.verdict == "bad"
        typer.echo(f"  {_MARKS[finding.verdict]}  {finding.what}: {finding.found}")
        if finding.mend:
            typer.echo(f"          mend: {finding.mend}")
    if bad:
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Look at Python, devices, attention kernels, extras, caches and models, one by one."""
    yield from _python()
    yield from _devices()
    yield from _kernels()
    yield from _extras()
    yield from _caches()
    yield from _models()


def _python() -> Iterator[Finding]:
    yield Finding("python", "icl", __version__)
    yield Finding("python", "python", platform.python_version())
    for package in ("torch", "transformers", "datasets", "peft"):
        try:
            yield Finding("python", package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding("python", package, "missing", "bad", f"pip install {package}")


def _devices() -> Iterator[Finding]:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    yield Finding("devices", "cpu", f"{cores()} cores, {_free(memory.available, memory.total)}")
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(index)
        half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16 only"
        told = f"{name}, {_free(*torch.cuda.mem_get_info(index))}, {half}"
        yield Finding("devices", f"cuda:{index}", told)
    if not torch.cuda.is_available():
        yield Finding("devices", "cuda", "none; models run on the CPU", "note")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "there; name it under `model.device`")


def _free(free: int, total: int) -> str:
    return f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"


def _kernels() -> Iterator[Finding]:
    """Try a second derivative through each of torch's attention kernels and through our own."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    yield Finding(
        "attention", "icl's packed kernel", "first and second order, on every model it packs"
    )
    kernels = {
        "math": SDPBackend.MATH,
        "flash": SDPBackend.FLASH_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    }
    for name, kernel in kernels.items():
        query = torch.randn(1, 2, 4, 16, device=device, dtype=dtype, requires_grad=True)
        found = "not on this device"
        try:
            with sdpa_kernel(kernel):
                out = torch.nn.functional.scaled_dot_product_attention(query, query, query)
                (first,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)
                found = "first order only"
                torch.autograd.grad(first.square().sum(), query)
                found = "first and second order"
        except RuntimeError:
            pass
        verdict: Verdict = "good" if found == "first and second order" else "note"
        yield Finding("attention", f"torch's {name} kernel on {device}", found, verdict)


def _extras() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("icl") or ()
        names = metadata.metadata("icl").get_all("Provides-Extra") or ()
    except metadata.PackageNotFoundError:
        yield Finding("extras", "all", _FROM_SOURCE, "note", "pip install -e .")
        return
    wanted: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": ""}):
            for extra in names:
                if marker.evaluate({"extra": extra}):
                    wanted.setdefault(extra, []).append(requirement)
    for extra, requirements in wanted.items():
        missing = [told for r in requirements if (told := _lacks(r.name, r.specifier))]
        if missing:
            mend = f"pip install 'icl[{extra}]'"
            yield Finding("extras", extra, f"lacks {', '.join(missing)}", "note", mend)
        else:
            yield Finding("extras", extra, "installed")


def _lacks(name: str, specifier: Any) -> str | None:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    return None if specifier.contains(version, prereleases=True) else f"{name}{specifier}"


def _caches() -> Iterator[Finding]:
    from huggingface_hub import constants

    yield _folder("ICL_CACHE", cache_dir())
    yield _folder("HF_HOME", Path(constants.HF_HOME))
    if constants.HF_HUB_OFFLINE:
        told = "offline: only what is cached is used (HF_HUB_OFFLINE)"
        yield Finding("caches", "the Hub", told, "note")
    else:
        yield Finding("caches", "the Hub", "asked when needed")


def _folder(variable: str, folder: Path) -> Finding:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = f"export {variable}=<a folder that you may write>"
        return Finding("caches", str(folder), "cannot be written", "bad", mend)
    free = shutil.disk_usage(there).free
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = f"{size / 1e9:.1f} GB used, {free / 1e9:.1f} GB free on its disk"
    if free >= _WANTED:
        return Finding("caches", str(folder), told)
    return Finding("caches", str(folder), told, "note", f"export {variable}=<a larger disk>")


def _models() -> Iterator[Finding]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from icl.models.packaged.catalogue import PACKAGED

    for name, model in PACKAGED.items():
        try:
            yield Finding("models", name, model.state())
        except IclError as error:
            yield Finding("models", name, str(error), "note", model.install)
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for one in sorted(repositories, key=lambda one: one.repo_id):
        if one.repo_type == "model":
            told = f"in the Hub's cache, {one.size_on_disk / 1e9:.1f} GB"
            yield Finding("models", one.repo_id, told)
