"""The commands ``icl run`` and ``icl report``."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from icl.cli.faults import told
from icl.cli.prompts import prompts_command
from icl.errors import IclError, one_line
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.experiment import check_processes, run_experiment, write_outcome
from icl.experiments.prompt_study import is_study
from icl.processes import connect
from icl.processes.launch import launch, launched, program
from icl.processes.watch import FAULT, INTERRUPTED
from icl.reporting.comparison import Comparison
from icl.runs.finished import read_run
from icl.runs.folder import RunFolder
from icl.tools import interrupt
from icl.tools.progress import Format, event, speak, speaks_json
from icl.tools.shipped import find_config


def run_command(
    config: str | None,
    out: Path | None,
    data: Path | None,
    limit: int | None,
    *,
    processes: int = 1,
    track: Sequence[str] = (),
    form: Format = "text",
    overrides: Sequence[str] = (),
) -> None:
    """Run an experiment and print its table; see `icl.cli.main.run`.

    Without `config` it is that of the folder `out`.
    """
    with guarded(form):
        file, resumed = config or _own_config(out), config is None
        if resumed and is_study(Path(file)):
            _resume_study(file, out, limit, processes, track)
        else:
            _run(file, out, data, limit, processes, track, overrides)


@contextmanager
def guarded(form: Format = "text") -> Iterator[None]:
    """End a command that runs something as its user wants to hear of it: stopped, or at fault."""
    speak(form)
    try:
        with interrupt.like_ctrl_c(), warnings.catch_warnings():
            if speaks_json():
                warnings.showwarning = _warned
            yield
    except KeyboardInterrupt:
        _stopped()
    except Exception as error:
        fault = told(error)
        if fault is None or form == "text":
            raise
        event("error", message=one_line(fault))
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
    experiment = load_config(path, overrides).with_data(data)
    folder = experiment.folder(out)
    if processes > 1 and not launched():
        check_processes(experiment, processes)
        code = launch(sys.argv[1:], processes)
        if code:
            sys.exit(code)
        return
    command = _command(config, out, data, limit, overrides)
    with connect(cpu=_on_cpu(experiment)) as group:
        if not group.main:
            warnings.simplefilter("ignore")  # the main process says it
        outcome = run_experiment(
            experiment, folder, command=command, limit=limit, processes=group, track=track
        )
    if group.main:
        _show(outcome)


def _resume_study(
    config: str, out: Path | None, limit: int | None, processes: int, track: Sequence[str]
) -> None:
    if processes > 1 or track:
        raise IclError("A prompt study runs in one process, untracked; drop the options.")
    prompts_command(config, out, None, limit)


def _own_config(folder: Path | None) -> str:
    config = Path(folder or ".") / "config.yaml"
    if not config.is_file():
        raise IclError(
            f"{folder} is not a run's folder: it has no config.yaml; give the folder that"
            " `icl run` named."
        )
    return str(config)


def _command(
    config: str, out: Path | None, data: Path | None, limit: int | None, overrides: Sequence[str]
) -> str:
    """Return the command that makes this run, for the report."""
    options = {"--out": out, "--data": data, "--limit": limit}
    given = [part for name, x in options.items() if x is not None for part in (name, str(x))]
    given += [part for assignment in overrides for part in ("--set", assignment)]
    return shlex.join(["icl", "run", config, *given])


def report_command(folder: Path, *, plots: bool = False) -> None:
    """Write a run's report again, its plots as files where asked for, and print its table."""
    outcome = write_outcome(read_run(RunFolder(folder)), command=f"icl report {folder.name}")
    _show(outcome)
    if plots:
        from icl.reporting.figures import FOLDER, write_plots

        write_plots(folder, outcome.summary)
        Console().print(f"Plots: {folder / FOLDER}", soft_wrap=True, highlight=False, markup=False)


def _on_cpu(experiment: ExperimentConfig) -> bool:
    device = experiment.model.device
    return device is not None and device.startswith("cpu")


def _stopped() -> NoReturn:
    """End after an interrupt; the main process says how to go on."""
    if launched():  # a second signal must not change the code by which the launcher knows
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    if os.environ.get("RANK", "0") == "0":
        again = f"{program()} {shlex.join(sys.argv[1:])}"
        elsewhere = launched() and "ICL_PROGRAM" not in os.environ  # a launcher that we do not know
        how = "run the same command again" if elsewhere else again
        if speaks_json():
            event("stopped", command=again)
        else:
            sys.stderr.write(f"icl: stopped; what was finished is kept. To go on: {how}\n")
    sys.exit(INTERRUPTED)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    event("warning", message=str(message))


def _show(outcome: Comparison) -> None:
    from icl.reporting import print_table

    event("report", path=str(outcome.report))
    console = Console()
    print_table(outcome.records, console, outcome.meta_training)
    console.print(f"Report: {outcome.report}", soft_wrap=True, highlight=False, markup=False)
