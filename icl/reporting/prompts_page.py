"""`prompts.html`: a prompt study as one self-contained page, no script, no network."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from icl.errors import IclError
from icl.evaluation.sensitivity import Sensitivity
from icl.reporting import numbers as formats
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
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(render(found, title=title, config=config, command=command), "utf-8")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise IclError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path


def render(found: Sensitivity, *, title: str, config: str, command: str) -> str:
    """Return the page as HTML; everything that comes from the user is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("icl.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (formats.percent, formats.span, formats.points, formats.p_value, shots):
        jinja.filters[function.__name__] = function
    page = jinja.get_template("prompts.html.j2").render(
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
    return page.strip() + "\n"
