"""The commands ``icl export`` and ``icl merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    learner: Annotated[str, typer.Argument(help="A meta-trained learner's name in that run.")],
    out: Annotated[Path, typer.Argument(help="The directory to make.")],
    push: Annotated[
        str | None, typer.Option(help="Upload it to the Hub as this repository, owner/name.")
    ] = None,
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="No model of sentence-transformers.")
    ] = False,
    with_base: Annotated[
        bool, typer.Option("--with-base", help="Write the base of an encoder's adapter too.")
    ] = False,
) -> None:
    """Write what was meta-trained for PEFT and sentence-transformers, with a model card.

    Example: icl export runs/quickstart fomaml adapter
    """
    from icl.exchange.adapter import export_learner, push_to_hub

    done = export_learner(run, learner, out, adapter_only=adapter_only, with_base=with_base)
    loads = []
    if done.sentence:
        loads.append(f"SentenceTransformer({str(out)!r})")
    if done.adapter:
        where = str(out / "adapter" if done.sentence else out)
        loads.append(f"PeftModel.from_pretrained(model, {where!r})")
    typer.echo(f"Wrote {out}: load it with {' or '.join(loads)}; see {out / 'README.md'}.")
    if push is not None:
        typer.echo(f"Pushed: {push_to_hub(out, push, private=private)}")


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
