"""The commands ``icl run`` and ``icl report``."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from icl.config import ExperimentConfig, load_config
from icl.errors import IclError, one_line
from icl.evaluation.runfolder import RunFolder
from icl.experiment import Outcome, check_processes, run_experiment, write_outcome
from icl.processes import connect
from icl.processes.launch import launch, launched
from icl.processes.watch import FAULT, INTERRUPTED
from icl.progress import Format, event, speak, speaks_json
from icl.shipped import find_config


def run_command(
    config: str,
    out: Path | None,
    data: Path | None,
    limit: int | None,
    *,
    processes: int = 1,
    track: Sequence[str] = (),
    form: Format = "text",
    overrides: Sequence[str] = (),
) -> None:
    """Run an experiment and print its table; see `icl.cli.main.run`."""
    speak(form)
    try:
        _run(config, out, data, limit, processes, track, overrides)
    except IclError as error:
        if form == "text":
            raise
        event("error", message=one_line(error))
        sys.exit(FAULT)
    finally:
        speak("text")


def _run(
    config: str,
    out: Path | None,
    data: Path | None,
    limit: int | None,
    processes: int,
    track: Sequence[str],
    overrides: Sequence[str],
) -> None:
    path = find_config(config)
    experiment = load_config(path, overrides)
    if data is not None:
        experiment = experiment.with_data(data)
    folder = out if out is not None else Path("runs") / experiment.name
    command = f"icl run {config}" + ("" if limit is None else f" --limit {limit}")
    command += "".join(f" --set {shlex.quote(assignment)}" for assignment in overrides)
    if processes > 1 and not launched():
        check_processes(experiment, processes)
        code = launch(sys.argv[1:], processes)
        if code:
            sys.exit(code)
        return
    try:
        with connect(cpu=_on_cpu(experiment)) as group, warnings.catch_warnings():
            if not group.main:
                warnings.simplefilter("ignore")  # the main process says it
            elif speaks_json():
                warnings.showwarning = _warned
            outcome = run_experiment(
                experiment, folder, command=command, limit=limit, processes=group, track=track
            )
    except KeyboardInterrupt:
        _stopped()
    if group.main:
        _show(outcome)


def report_command(folder: Path, *, plots: bool = False) -> None:
    """Write a run's report again, its plots as files where asked for, and print its table."""
    outcome = write_outcome(RunFolder(folder), command=f"icl report {folder.name}")
    _show(outcome)
    if plots:
        from icl.evaluation.summary import summarise
        from icl.reporting.figures import FOLDER, write_plots

        write_plots(folder, summarise(outcome.records, outcome.meta_training))
        Console().print(f"Plots: {folder / FOLDER}", soft_wrap=True, highlight=False, markup=False)


def _on_cpu(experiment: ExperimentConfig) -> bool:
    device = experiment.model.device
    return device is not None and device.startswith("cpu")


def _stopped() -> NoReturn:
    """End after an interrupt; the main process says how to go on."""
    if os.environ.get("RANK", "0") == "0":
        again = shlex.join(["icl", *sys.argv[1:]])
        if speaks_json():
            event("stopped", command=again)
        else:
            sys.stderr.write(f"icl: stopped; what was finished is kept. To go on: {again}\n")
    sys.exit(INTERRUPTED)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    event("warning", message=str(message))


def _show(outcome: Outcome) -> None:
    from icl.reporting import print_table

    event("report", path=str(outcome.report))
    console = Console()
    print_table(outcome.records, console, outcome.meta_training)
    console.print(f"Report: {outcome.report}", soft_wrap=True, highlight=False, markup=False)
