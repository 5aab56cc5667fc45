"""`prompts.html`: a prompt study as one self-contained page, no script, no network."""

from __future__ import annotations

from pathlib import Path

from icl.evaluation.sensitivity import Sensitivity
from icl.reporting import numbers
from icl.reporting import prompts_terminal as told
from icl.reporting.html import fill, write_whole


def write_prompts_page(
    folder: Path, found: Sensitivity, *, title: str, config: str, command: str
) -> Path:
    """Write ``prompts.html`` into the run's folder, whole or not at all, and return its path.

    Raises:
        IclError: it cannot be written.
    """
    path = Path(folder) / "prompts.html"
    page = fill(
        "prompts.html.j2",
        (numbers.percent, numbers.span, numbers.points, numbers.p_value, told.shots),
        found=found,
        title=title,
        sentence=told.sentence(found),
        singles=told.singles(found),
        pairs=told.pairs(found),
        against_default=told.against_default,
        formula=told.FORMULA,
        honest=told.HONEST,
        config=config,
        command=command,
    )
    write_whole(path, page)
    return path
