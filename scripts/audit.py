"""Look for known weaknesses of the pinned dependencies: `python scripts/audit.py` or `make audit`.

Asks pip-audit about every line of constraints.txt. Where its database cannot be reached, this says
so and is no failure; pip-audit itself would then report that nothing was found. Ends with 1 where a
dependency has a known weakness.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PATIENCE = 120  # seconds for the whole audit


def main() -> int:
    """Print the outcome; return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps",
               "--disable-pip", "--format", "json", "--progress-spinner", "off"]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        code, told = judge(json.loads(done.stdout)["dependencies"])
    except subprocess.TimeoutExpired:
        code, told = 0, f"Audit skipped: no answer within {PATIENCE} s."
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        code, told = 0, f"Audit skipped: {reason}"
    print(told)
    return code


def judge(dependencies: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """Return the exit code and what to say about pip-audit's list of dependencies."""
    asked = [entry for entry in dependencies if "skip_reason" not in entry]
    weak = [
        f"  {entry['name']} {entry['version']}: {found['id']}, mended in"
        f" {', '.join(found['fix_versions']) or 'no version yet'}"
        for entry in asked
        for found in entry["vulns"]
    ]
    if weak:
        return 1, "\n".join(["Known weaknesses:", *weak])
    if not asked:
        return 0, f"Audit skipped: the database knew none of {len(dependencies)} dependencies."
    return 0, f"No known weakness in {len(asked)} of {len(dependencies)} dependencies."


if __name__ == "__main__":
    sys.exit(main())
