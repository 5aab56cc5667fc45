"""The command ``icl prompts``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from icl.experiments.prompt_study import load_study, run_study
from icl.tools.shipped import find_config


def prompts_command(config: str, out: Path | None, data: Path | None, limit: int | None) -> None:
    """Run a prompt study and print what it says; see `icl.cli.main.prompts`."""
    from icl.reporting.prompts_terminal import print_sensitivity

    study = load_study(find_config(config)).with_data(data)
    command = f"icl prompts {config}" + ("" if limit is None else f" --limit {limit}")
    found, page = run_study(study, study.folder(out), command=command, limit=limit)
    console = Console()
    print_sensitivity(found, console)
    console.print(f"Report: {page}", soft_wrap=True, highlight=False, markup=False)
