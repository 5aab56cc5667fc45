"""The commands ``icl run`` and ``icl report``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from icl.config import load_config
from icl.errors import IclError, did_you_mean
from icl.evaluation.runfolder import RunFolder
from icl.experiment import Outcome, run_experiment, write_outcome
from icl.shipped import shipped


def run_command(config: str, out: Path | None, data: Path | None, limit: int | None) -> None:
    """Run an experiment and print its table; see `icl.cli.main.run`."""
    path = find_config(config)
    experiment = load_config(path)
    if data is not None:
        experiment = experiment.with_data(data)
    folder = out if out is not None else Path("runs") / experiment.name
    command = f"icl run {config}" + ("" if limit is None else f" --limit {limit}")
    _show(run_experiment(experiment, folder, command=command, limit=limit))


def report_command(folder: Path) -> None:
    """Write a run's report again and print its table."""
    _show(write_outcome(RunFolder(folder), command=f"icl report {folder.name}"))


def find_config(name: str) -> Path:
    """Return the file of an experiment: a path, or the name of one that icl brings along.

    Raises:
        IclError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    brought = {file.stem: file for file in sorted(shipped("configs").glob("*.yaml"))}
    if name in brought:
        return brought[name]
    hint = did_you_mean(path.stem, brought)
    raise IclError(f"There is no experiment file {name!r}.{hint}")


def _show(outcome: Outcome) -> None:
    from icl.reporting import print_table

    console = Console()
    print_table(outcome.records, console, outcome.meta_training)
    console.print(f"Report: {outcome.report}", soft_wrap=True, highlight=False)
