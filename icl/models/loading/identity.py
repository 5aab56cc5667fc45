"""What makes a model the one it is: the bytes of its files, or of its tensors in memory.

A model that comes from files is known by every one of them that decides its numbers: weights,
configuration, tokenizer, chat template, and the modules of sentence-transformers. That can be told
without loading it, so that a finished run is repeated without a model. One that is handed over as
Python objects is known by all their content.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.models.loading.filehash import Stamp, file_hashes, stamp
from icl.models.packaged.catalogue import PACKAGED

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FORM = 1  # raised when identities are made in another way
# What no model reads: words for people, weights in forms that are refused, and a training's state.
_IDLE = re.compile(
    r"\..*|(readme|licen[sc]e|notice|use_policy|citation)\b.*|.*\.(md|rst|pdf|png|jpe?g|gif|svg|log"
    r"|lock|tmp|h5|msgpack|onnx|ot|tflite|pth|pt|ckpt|zip|gz)|pytorch_model.*\.bin|optimizer\.bin"
    r"|training_args\.bin",
    re.IGNORECASE,
)
_TEMPLATES = "additional_chat_templates"
_ELSEWHERE = re.compile(r'"([\w.-]+/[\w.-]+)--([\w.-]+)\.\w+"')  # code in another repository


@dataclass(frozen=True)
class Origin:
    """The files that a model is loaded from, as they were when this was made.

    Attributes:
        files: by their names in the model's directory.
        settings: what else decides the weights that are loaded from them.
    """

    files: Mapping[str, Path]
    settings: tuple[str, ...]
    _stamps: Mapping[str, Stamp] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, settings: tuple[str, ...], *, whole: bool = False) -> Origin:
        """Look at a model's directory; `whole`: at everything in it, which own code may read."""
        files = _everything(folder) if whole else model_files(folder)
        return cls(files, settings, {name: stamp(path) for name, path in files.items()})

    def identity(self) -> str | None:
        """Return the model's identity, 16 hexadecimal digits; None where a file has changed since.

        Neither the directory's name nor its place enters. Large files are read once, see
        `icl.models.loading.filehash`.

        Raises:
            IclError: a file cannot be read.
        """
        digest = files_digest(self.files)
        try:
            same = all(stamp(path) == self._stamps[name] for name, path in self.files.items())
        except OSError:
            same = False
        return _short([_FORM, digest, *self.settings]) if same else None


def files_digest(files: Mapping[str, Path]) -> str:
    """Hash files' names and bytes, SHA-256 in hexadecimal."""
    names = sorted(files)
    hashes = file_hashes([files[name] for name in names])
    told = [[unicodedata.normalize("NFC", n), h] for n, h in zip(names, hashes, strict=True)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def model_files(folder: Path) -> dict[str, Path]:
    """Return the files of a model's directory that may decide its numbers, by relative name.

    All count but those that are known to be idle, and of its subdirectories those alone that
    transformers and sentence-transformers read: a training's checkpoints and weights in other forms
    lie in others.
    """
    found = {path.name: path for path in folder.iterdir() if _counts(path)}
    below = [_TEMPLATES, *_modules(folder)]
    for inner in sorted({folder / name for name in below}):
        if inner != folder and inner.is_relative_to(folder) and inner.is_dir():
            found |= {p.relative_to(folder).as_posix(): p for p in inner.rglob("*") if _counts(p)}
    return found


def _everything(folder: Path) -> dict[str, Path]:
    paths = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    seen = {n: p for n, p in paths.items() if not any(part.startswith(".") for part in n.parts)}
    return {name.as_posix(): path for name, path in seen.items() if "__pycache__" not in name.parts}


def _counts(path: Path) -> bool:
    return not _IDLE.fullmatch(path.name) and path.is_file()


def _modules(folder: Path) -> list[str]:
    """Return the subdirectories of the modules that sentence-transformers puts after the model."""
    try:
        said = json.loads((folder / "modules.json").read_text("utf-8"))
        return [str(module["path"]) for module in said]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def find_origin(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    quantise: str | None = None,
    trust_remote_code: bool = False,
) -> Origin | None:
    """Return a model's files, where they are on this machine; arguments as `load_backbone`.

    For a model of the Hub that is the commit in the local cache. Its files are hashed as any
    others are: their names there say what was fetched, and not what somebody has changed since.

    Raises:
        IclError: the files cannot be read, or a packaged model's package is not installed.
    """
    folder = _folder(name, revision)
    if folder is None:
        return None
    settings = (dtype, quantise or "", *(["own code"] if trust_remote_code else []))
    try:
        found = Origin.of(folder, settings, whole=trust_remote_code)
    except OSError as error:
        what = error.strerror or str(error)
        raise IclError(
            f"Cannot read {error.filename} ({what}); check the model's files."
        ) from error
    if not trust_remote_code:
        return found
    for repository, module in sorted(_code_elsewhere(found)):
        other = _snapshot(repository, None, f"{module}.py")
        if other is None:
            return None
        extra = {f"{repository}/{p.name}": p for p in other.glob("*.py")}
        stamps = {n: stamp(p) for n, p in extra.items()}
        found = Origin({**found.files, **extra}, found.settings, {**found._stamps, **stamps})
    return found


def model_identity(name: str, **settings: Any) -> str | None:
    """Return what `Backbone.identity` will be once the model is loaded; None: not to be told yet.

    Args:
        name: as in `load_backbone`.
        settings: see `find_origin`.

    Raises:
        IclError: a file of the model cannot be read.
    """
    origin = find_origin(name, **settings)
    return None if origin is None else origin.identity()


def _folder(name: str, revision: str | None) -> Path | None:
    if name in PACKAGED:
        folder = PACKAGED[name].folder()
    else:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            return _snapshot(name, revision, "config.json")
    return folder if (folder / "config.json").is_file() else None


def _snapshot(name: str, revision: str | None, file: str) -> Path | None:
    """Return the directory of a Hub model's commit in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except HFValidationError:
        return None
    # anything else than a path says that it is not cached
    return Path(found).parent if isinstance(found, str) else None


def _code_elsewhere(origin: Origin) -> set[tuple[str, str]]:
    """Return repositories and modules that configurations name for code of their own."""
    found: set[tuple[str, str]] = set()
    for name, path in origin.files.items():
        if name in ("config.json", "tokenizer_config.json"):
            found.update(_ELSEWHERE.findall(path.read_text("utf-8", "replace")))
    return found


def memory_identity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the identity of a model in memory, 16 hexadecimal digits.

    All bytes of all tensors enter, with names, shapes and dtypes, the class, the configuration,
    and the tokenizer's whole content.
    """
    import torch

    from icl.models.weights.devices import all_tensors

    digest = hashlib.sha256(repr(_class(model)).encode())
    digest.update(_settings(model).encode())
    digest.update(tokenizer_digest(tokenizer).encode())
    for name, tensor in all_tensors(model):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().contiguous().reshape(-1).cpu()
        digest.update(flat.view(torch.uint8).numpy().data)
    return _short([_FORM, "memory", digest.hexdigest()])


def memory_mark(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a quick sign of what a model in memory is, which most changes there change.

    Up to 4096 evenly spaced values of each tensor enter, how often it was written to, the
    configuration, and the tokenizer's size and templates.
    """
    import torch

    digest = hashlib.sha256(_settings(model).encode())
    digest.update(repr([len(tokenizer), tokenizer.chat_template]).encode())
    digest.update(repr(tokenizer.special_tokens_map).encode())
    for name, tensor in sorted(model.named_parameters()):
        if type(tensor) is not torch.nn.Parameter or tensor.device.type == "meta":
            continue  # few bits, which settle in their first pass, or on disk
        flat = tensor.detach().flatten()
        some = flat[:: max(1, flat.numel() // 4096)].float().cpu()
        digest.update(f"{name} {0 if tensor.is_inference() else tensor._version}".encode())
        digest.update(some.numpy().tobytes())
    return digest.hexdigest()


def _settings(model: PreTrainedModel) -> str:
    """Return a model's configuration as JSON, without where it came from and who has written it."""
    beside = {"_name_or_path", "name_or_path", "transformers_version", "_commit_hash"}
    parts = (model.config, getattr(model, "generation_config", None))
    told = [{} if p is None else {k: v for k, v in p.to_dict().items() if k not in beside}
            for p in parts]  # fmt: skip
    return json.dumps(told, sort_keys=True, default=_plain)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash all that a tokenizer does with a text: vocabulary, normaliser, template and the rest.

    Truncation and padding do not enter: every call sets them as it needs them.
    """
    raw: Any = getattr(tokenizer, "backend_tokenizer", None)
    if raw is not None:
        content = json.loads(raw.to_str())
        content["truncation"] = content["padding"] = None
    else:
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            content = files_digest(model_files(Path(folder)))
    init = getattr(tokenizer, "init_kwargs", {})
    beside = {"name_or_path", "tokenizer_file", "vocab_file", "merges_file", "chat_template"}
    told = [
        _class(tokenizer),
        content,
        {key: value for key, value in init.items() if key not in beside},
        tokenizer.special_tokens_map,
        tokenizer.chat_template,
        tokenizer.model_max_length,
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(thing: object) -> object:
    """Return what JSON can hold, the same in every process."""
    return sorted(map(str, thing)) if isinstance(thing, set | frozenset) else str(thing)


def _class(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _short(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
