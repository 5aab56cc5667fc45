"""The command ``icl prompts``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from icl.experiments.experiment import make_model
from icl.experiments.prompt_study import load_study, run_study
from icl.tools.shipped import find_config


def prompts_command(config: str, out: Path | None, data: Path | None, limit: int | None) -> None:
    """Run a prompt study and print what it says; see `icl.cli.main.prompts`."""
    from icl.reporting.prompts_terminal import print_sensitivity

    study = load_study(find_config(config))
    if data is not None:
        tasks = study.tasks.model_copy(update={"data": str(data)})
        study = study.model_copy(update={"tasks": tasks})
    folder = out if out is not None else Path("runs") / study.name
    command = f"icl prompts {config}" + ("" if limit is None else f" --limit {limit}")
    found, page = run_study(study, folder, make_model(study.model), command=command, limit=limit)
    console = Console()
    print_sensitivity(found, console)
    console.print(f"Report: {page}", soft_wrap=True, highlight=False, markup=False)
