"""Texts that come from files, written to a terminal: they are shown, and never obeyed."""

from __future__ import annotations

import re

import typer

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and ends of lines


def say(text: str) -> None:
    """Print a text; what would move the cursor or rename the window becomes a mark."""
    typer.echo(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
