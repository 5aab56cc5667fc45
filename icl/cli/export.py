"""The command ``icl export``."""

from __future__ import annotations

from pathlib import Path

import typer


def export_command(run: Path, learner: str, out: Path) -> None:
    """Write a run's meta-trained start as a PEFT adapter; see `icl.export.export_learner`."""
    from icl.export import export_learner

    folder = export_learner(run, learner, out)
    typer.echo(f"Wrote {folder}: load it with PeftModel.from_pretrained(model, {str(folder)!r}).")
