"""What a model's name stands for, and what is said where that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icl.errors import IclError, in_short
from icl.models.memory import is_out_of_memory
from icl.models.packaged.catalogue import PACKAGED, find_packaged, near_packaged


@contextmanager
def faults_told(name: str) -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be read into one sentence."""
    try:
        yield
    except IclError:
        raise
    except Exception as error:  # files of any shape come here, and fail anywhere in transformers
        if is_out_of_memory(error):
            raise IclError(
                f"Memory ran out while the model {name!r} was loaded; set `model.dtype: bfloat16`,"
                " `model.quantise` or `model.device_map`."
            ) from error
        reason = in_short(error)
        if not isinstance(error, OSError | ValueError | ImportError):
            reason = f"its files are damaged or do not fit together ({reason})"
        raise IclError(
            f"The model {name!r} cannot be loaded: {reason}; give a language model's Hub "
            f"id, a local directory, or one of {', '.join(PACKAGED)}.{near_packaged(name)}"
        ) from error


def file_of(name: str, file: str, revision: str | None) -> Path | None:
    """Return one of a model's files, fetched where it is on the Hub; None where there is none."""
    from transformers.utils.hub import cached_file

    found = cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def model_path(name: str) -> str:
    """Return what transformers should load for a model's name: a directory or a Hub id.

    Raises:
        IclError: there is no such packaged model or directory.
    """
    packaged = find_packaged(name)
    if packaged is not None:
        return str(packaged.path())
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise IclError(f"The model directory {name!r} does not exist; check the path.")
    return str(folder) if folder.is_dir() else name
