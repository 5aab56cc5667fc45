"""The audit tells weaknesses, and does not call what it could not look up sound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOUND = {"name": "alpha", "version": "1.0", "vulns": []}
WEAK = {"name": "beta", "version": "2.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "gamma", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("found", "code", "told"),
    [
        ([SOUND, WEAK], 1, "beta 2.0: CVE-1, mended in 2.1"),
        ([SOUND, UNKNOWN], 0, "in 1 of 2 dependencies"),
        ([UNKNOWN, UNKNOWN], 0, "Audit skipped: the database knew none of 2"),
        (None, 0, "Audit skipped: no connection"),
    ],
)
def test_what_pip_audit_found_is_told(
    found: list[dict[str, Any]] | None, code: int, told: str, tmp_path: Path
) -> None:
    answer = json.dumps({"dependencies": found})
    program = "raise SystemExit('no connection')" if found is None else f"print({answer!r})"
    (tmp_path / "pip_audit.py").write_text(program)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/audit.py"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert told in done.stdout
