from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.server.fake import FakeServer, serving

pytest.importorskip("httpx2", reason="the extra `server` is not installed")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server with an empty reply cache."""
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "cache"))
    with serving(FakeServer()) as running:
        yield running
