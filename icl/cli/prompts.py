"""The command ``icl prompts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl.cli.faults import guarded


def prompts(
    config: Annotated[
        str, typer.Argument(help="A prompt study's YAML file, or the name of one icl brings along.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/<the study's name>.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A local directory with the task family's data.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Only so many episodes of each set, the first ones.")
    ] = None,
) -> None:
    """Try a grid of prompts on fixed episodes: how much the way of asking matters, and why.

    Example: icl prompts prompt_study --limit 2
    """
    with guarded():
        run_prompts(config, out, data, limit)


def run_prompts(config: str, out: Path | None, data: Path | None, limit: int | None) -> None:
    """Run a prompt study and print what it says."""
    from rich.console import Console

    from icl.experiments.prompt_study import load_study, run_study
    from icl.reporting.prompts_terminal import print_sensitivity
    from icl.tools.shipped import find_config

    study = load_study(find_config(config)).with_data(data)
    command = f"icl prompts {config}" + ("" if limit is None else f" --limit {limit}")
    found, page = run_study(study, study.folder(out), command=command, limit=limit)
    console = Console()
    print_sensitivity(found, console)
    console.print(f"Report: {page}", soft_wrap=True, highlight=False, markup=False)
