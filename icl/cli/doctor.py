"""The command ``icl doctor``."""

from __future__ import annotations

import typer

_MARKS = {"good": "ok  ", "note": "note", "bad": "BAD "}


def doctor() -> None:
    """Say what this machine can do: devices, extras, caches, models; and what is missing.

    Exit code 1 where something that icl cannot do without is missing. Example: icl doctor
    """
    from icl.doctor import examine

    area, bad = "", 0
    for finding in examine():
        if finding.area != area:
            area = finding.area
            typer.echo(area)
        bad += finding.verdict == "bad"
        typer.echo(f"  {_MARKS[finding.verdict]}  {finding.what}: {finding.found}")
        if finding.mend:
            typer.echo(f"          mend: {finding.mend}")
    if bad:
        raise typer.Exit(1)
