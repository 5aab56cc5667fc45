"""What holds for every test: no network, one thread, the user's own folders left alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.place import Place

# Tiny models are slower on several threads than on one; and both must be set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Embeddings are kept in a folder of this session's own.
_EMBEDDINGS = tempfile.TemporaryDirectory(prefix="icl-embeddings-")
os.environ["ICL_EMBEDDINGS"] = _EMBEDDINGS.name


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model and the data of `tests.place`."""
    from tests import place, tiny  # which load torch

    folder = tmp_path_factory.mktemp("material")
    tiny.save(folder / "model")
    place.write_data(folder / "data")
    return folder


@pytest.fixture
def place(
    material: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """A folder, the current one, in which `icl` runs on that material."""
    from tests.place import Place

    for part in ("model", "data"):
        (tmp_path / part).symlink_to(material / part)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Place(tmp_path, capsys, monkeypatch)
