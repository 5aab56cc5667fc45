"""Pages of HTML: made of a template, with all that comes from the user escaped, written whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.tools.disk import draft_of


def fill(template: str, filters: Iterable[Callable[..., Any]], **values: Any) -> str:
    """Return a template of this room as HTML, filled with values; filters go by their names."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("icl.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {function.__name__: function for function in filters}
    return jinja.get_template(template).render(**values).strip() + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file of a run's folder, whole or not at all; raises `IclError` where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft:
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise IclError(f"Cannot write {path}: {error.strerror or error}.") from error
