"""The command ``icl export``."""

from __future__ import annotations

from pathlib import Path

import typer


def export_command(run: Path, learner: str, out: Path, push: str | None, private: bool) -> None:
    """Write a run's meta-trained start as a PEFT adapter; see `export_learner`."""
    from icl.exchange.adapter import export_learner, push_to_hub

    folder = export_learner(run, learner, out)
    typer.echo(f"Wrote {folder}: load it with PeftModel.from_pretrained(model, {str(folder)!r}).")
    if push is not None:
        typer.echo(f"Pushed: {push_to_hub(folder, push, private=private)}")
