"""`prompts.html`: a prompt study as one self-contained page, no script, no network."""

from __future__ import annotations

from pathlib import Path

from icl.evaluation.sensitivity import Sensitivity
from icl.reporting import numbers as formats
from icl.reporting.html import fill, write_whole
from icl.reporting.prompts_terminal import (
    FORMULA,
    HONEST,
    against_default,
    pairs,
    sentence,
    shots,
    singles,
)


def write_prompts_page(
    folder: Path, found: Sensitivity, *, title: str, config: str, command: str
) -> Path:
    """Write ``prompts.html`` into the run's folder, whole or not at all, and return its path.

    Raises:
        IclError: it cannot be written.
    """
    path = Path(folder) / "prompts.html"
    write_whole(path, render(found, title=title, config=config, command=command))
    return path


def render(found: Sensitivity, *, title: str, config: str, command: str) -> str:
    """Return the page as HTML; everything that comes from the user is escaped."""
    return fill(
        "prompts.html.j2",
        (formats.percent, formats.span, formats.points, formats.p_value, shots),
        found=found,
        title=title,
        sentence=sentence(found),
        singles=singles(found),
        pairs=pairs(found),
        against_default=against_default,
        formula=FORMULA,
        honest=HONEST,
        config=config,
        command=command,
    )
