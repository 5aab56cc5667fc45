"""The command ``icl merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    model: Annotated[str, typer.Argument(help="The base: a Hub id, a directory or packaged:….")],
    adapter: Annotated[str, typer.Argument(help="A PEFT adapter: a directory or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="The directory to make.")],
) -> None:
    """Merge any PEFT adapter into its base model, so that every learner can start from it.

    Example: icl merge packaged:gemma-3-270m my-adapter my-model
    """
    from icl.exchange.merge import merge_adapter

    folder = merge_adapter(model, adapter, out)
    typer.echo(f"Wrote {folder}: name it as `model.name`, or with --model.")
