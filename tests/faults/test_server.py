"""A server that times out, sends garbage or hangs: one sentence, and the records so far stay."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("httpx2", reason="the extra `server` is not installed")
pytest.importorskip("babel", reason="the extra `offline` is not installed")

from icl.runs.store import RecordStore
from tests.models.server.conftest import server  # noqa: F401  (a fixture)
from tests.models.server.fake import FakeServer, Fault
from tests.models.server.test_run import write
from tests.place import run_icl


@pytest.mark.parametrize("fault", ["hangs", "garbage", "drops", "fails", "no scores", "bare"])
def test_a_server_that_fails_in_the_middle_loses_nothing(
    fault: str,
    server: FakeServer,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = f"  name: tiny\n  server: {{url: '{server.url}', retries: 1, timeout: 0.5}}"
    config, run = write(tmp_path, model), tmp_path / "run"

    def after_a_while(body: object) -> None:
        if len(RecordStore(run).read()) < 3:
            return
        if fault == "hangs":
            server.delay = 2.0
        else:
            kinds = {
                "garbage": Fault(200, body="\x00 not JSON \xff"),
                "drops": Fault(drop=True),
                "fails": Fault(503),
                "no scores": Fault(200, body='{"choices": [{"text": "x", "logprobs": null}]}'),
                "bare": Fault(200, body='{"choices": [{}]}'),
            }
            server.faults = [kinds[fault]] * 50  # more than one run uses up

    server.refuses = after_a_while
    assert run_icl(monkeypatch, "run", config, "--out", run) == 2
    told = [x for x in capsys.readouterr().err.splitlines() if x.startswith("icl:")]
    assert len(told) == 1
    kept = RecordStore(run).read()
    assert kept
    server.refuses = lambda body: None
    server.delay, server.faults = 0.0, []
    assert run_icl(monkeypatch, "run", config, "--out", run) == 0
    assert RecordStore(run).read()[: len(kept)] == kept
    assert len(RecordStore(run).read()) > len(kept)
