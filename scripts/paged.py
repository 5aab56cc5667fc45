"""Parts of a page that a script writes: each owns what stands between its two marker comments."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from icl.runs.finished import FinishedRun
from icl.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Block:
    """One part: its name, the runs that it stems from, its lines, and figures by file name."""

    name: str
    runs: Sequence[FinishedRun]
    lines: Sequence[str]
    figures: Mapping[str, str] = field(default_factory=dict)


def put(page: Path, block: Block, command: str) -> None:
    """Write a part into a page, where its markers are or at the end, and its figures beside it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    for name, svg in block.figures.items():
        (page.parent / name).write_text(svg, encoding="utf-8")
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    lines = [told(block.runs, command), "", *block.lines]
    page.write_text(with_block(text, block.name, lines), encoding="utf-8")


def with_block(text: str, name: str, lines: Sequence[str]) -> str:
    """Return a page's text with a part replaced, or added at its end.

    >>> with_block("a\\n<!-- by script: x -->\\nold\\n<!-- end of x -->\\nb", "x", ["new"])
    'a\\n<!-- by script: x -->\\nnew\\n<!-- end of x -->\\nb'
    """
    begin, end = f"<!-- by script: {name} -->", f"<!-- end of {name} -->"
    body = "\n".join(lines).strip("\n")
    part = f"{begin}\n{body}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if begin in text:
        return pattern.sub(lambda _: part, text)
    return f"{text.rstrip()}\n\n{part}\n".lstrip("\n")


def told(runs: Sequence[FinishedRun], command: str) -> str:
    """Say command, model, machine, date and how many meta-trainings."""
    run = RunFolder(runs[0].folder)
    machine: Mapping[str, Any] = run.read_json("environment.json") or {}
    newest = max((r.folder / "records.jsonl").stat().st_mtime for r in runs)
    day = datetime.fromtimestamp(newest, tz=timezone.utc)
    facts = (
        machine.get("accelerator"),
        f"{machine.get('cores')} cores of {machine.get('processor')}",
        f"{day:%Y-%m-%d}",
        f"icl {machine.get('icl')}",
    )
    where = "; ".join(str(fact) for fact in facts if fact)
    trainings = sum(len(r.meta_training) for r in runs)
    return f"`{command}` ({runs[0].config['model']['name']}; {where}). {trainings} meta-trainings."
