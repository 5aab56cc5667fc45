"""The commands ``icl run``, ``icl resume``, ``icl prompts`` and ``icl report``."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl.cli.faults import guarded
from icl.errors import IclError
from icl.tools.shipped import find_config

if TYPE_CHECKING:
    from rich.console import Console

    from icl.experiments.config import ExperimentConfig
    from icl.reporting.comparison import Comparison


class LogFormat(str, Enum):
    """How a command speaks on standard error."""

    TEXT = "text"
    JSON = "json"


# The options that commands share.
Data = Annotated[Path | None, typer.Option(help="A local directory with the task family's data.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Only so many episodes of each setting, the whole run's first."),
]
ProcessCount = Annotated[
    int, typer.Option(min=1, help="Share the work among so many processes of this machine.")
]
TrackerNames = Annotated[
    list[str] | None, typer.Option(help="Tell a tracker the figures, such as tensorboard.")
]
Form = Annotated[LogFormat, typer.Option(help="How progress, warnings and faults are told.")]


def run(
    config: Annotated[
        str, typer.Argument(help="An experiment's YAML file, or the name of one icl brings along.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/<the experiment's name>.")
    ] = None,
    data: Data = None,
    limit: Limit = None,
    processes: ProcessCount = 1,
    track: TrackerNames = None,
    log_format: Form = LogFormat.TEXT,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a field, as learners.lora.steps=20; repeat for more."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is to do, and what it will take.")
    ] = False,
) -> None:
    """Run an experiment, or go on with it where it was, and write its report.

    Example: icl run quickstart --limit 2 --set learners.lora.steps=20
    """
    from icl.experiments.config import load_config

    if dry_run:
        _foretell(config, out, data, limit, set_ or [])
        return
    with guarded(log_format.value):
        experiment = load_config(find_config(config), set_ or ()).with_data(data)
        options = {"--out": out, "--data": data, "--limit": limit}
        given = [part for n, x in options.items() if x is not None for part in (n, str(x))]
        given += [part for assignment in set_ or () for part in ("--set", assignment)]
        command = shlex.join(["icl", "run", config, *given])
        _run(experiment, experiment.folder(out), command, limit, processes, track or ())


def resume(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    limit: Limit = None,
    processes: ProcessCount = 1,
    track: TrackerNames = None,
    log_format: Form = LogFormat.TEXT,
) -> None:
    """Go on with a run from its folder alone, and write its report.

    Example: icl resume runs/quickstart
    """
    from icl.experiments.config import load_config
    from icl.experiments.prompt_study import is_study

    with guarded(log_format.value):
        config = folder / "config.yaml"
        if not config.is_file():
            raise IclError(
                f"{folder} is not a run's folder: it has no config.yaml; give the folder that"
                " `icl run` named."
            )
        if not is_study(config):
            few = () if limit is None else ("--limit", str(limit))
            command = shlex.join(["icl", "run", str(config), "--out", str(folder), *few])
            _run(load_config(config), folder, command, limit, processes, track or ())
        elif processes > 1 or track:
            raise IclError("A prompt study runs in one process, untracked; drop the options.")
        else:
            _run_prompts(str(config), folder, None, limit)


def prompts(
    config: Annotated[
        str, typer.Argument(help="A prompt study's YAML file, or the name of one icl brings along.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/<the study's name>.")
    ] = None,
    data: Data = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Only so many episodes of each set, the first ones.")
    ] = None,
) -> None:
    """Try a grid of prompts on fixed episodes: how much the way of asking matters, and why.

    Example: icl prompts prompt_study --limit 2
    """
    with guarded():
        _run_prompts(config, out, data, limit)


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    plots: Annotated[
        bool, typer.Option("--plots", help="Write its plots as SVG and PNG into RUN/plots, too.")
    ] = False,
) -> None:
    """Write the report of a run's folder again and print its table.

    Example: icl report runs/quickstart --plots
    """
    from rich.console import Console

    from icl.experiments.experiment import write_outcome
    from icl.runs.finished import read_run
    from icl.runs.folder import RunFolder

    outcome = write_outcome(read_run(RunFolder(run)), command=f"icl report {run.name}")
    _show(outcome)
    if plots:
        from icl.reporting.figures import FOLDER, write_plots

        write_plots(run, outcome.summary)
        _name_file(Console(), "Plots", run / FOLDER)


def _foretell(
    config: str, out: Path | None, data: Path | None, limit: int | None, overrides: list[str]
) -> None:
    """Print what an experiment will do; see `icl.experiments.forecast.forecast`."""
    from icl.experiments.config import load_config
    from icl.experiments.forecast import forecast
    from icl.reporting.boards import NONE
    from icl.reporting.numbers import count, duration

    experiment = load_config(find_config(config), overrides).with_data(data)
    folder = experiment.folder(out)
    plan = forecast(experiment, folder, limit)
    several = len(plan.sizes) > 1
    for label, model in experiment.by_name.items():
        size = plan.sizes[label]
        called = f"{label}, {model.name}" if several else model.name
        if size is None:
            typer.echo(f"Model {called}: its files are not at hand, so that times stay open.")
            continue
        typer.echo(
            f"Model {called}: {count(size.parameters)} parameters, {size.bytes / 2**30:.1f} GiB of"
            f" weights in {model.dtype}"
            f"{', before they are quantised' if model.quantise else ''}."
        )
    width = max(len(line.learner) for line in plan.lines)
    wide = max(len("model"), *(len(label) for label in plan.sizes))
    heading = f"{'model':{wide}}  " if several else ""
    typer.echo(f"{'learner':{width}}  {heading}episodes  done  steps    tokens  about")
    for line in plan.lines:
        on = f"{line.model or NONE:{wide}}  " if several else ""
        tokens = "?" if line.tokens is None else count(line.tokens)
        took = "?" if line.seconds is None else duration(line.seconds)
        how = " (measured here)" if line.measured else ""
        typer.echo(
            f"{line.learner:{width}}  {on}{line.episodes:8}  {line.done:4}  {line.steps:5}"
            f"  {tokens:>8}  {took}{how}"
        )
    if experiment.tuning is not None:
        typer.echo(
            f"Tuning multiplies the work: up to {experiment.tuning.trials} trials of each learner"
            f" on validation episodes (split {experiment.tuning.split!r}) come first, and"
            " meta-learners are trained anew for each."
        )
    known = [line.seconds for line in plan.lines if line.seconds is not None]
    total = duration(sum(known)) + (" and what is open" * (len(known) < len(plan.lines)))
    typer.echo(f"In all about {total}, in {folder}. Nothing was run.")
    if not all(line.measured for line in plan.lines):
        typer.echo(
            "Times that were not measured come from tokens, and may be off by a factor of a few;"
            f" a look of one episode measures them: icl run {config} --limit 1"
        )


def _run(
    experiment: ExperimentConfig,
    folder: Path,
    command: str,
    limit: int | None,
    processes: int,
    track: Sequence[str],
) -> None:
    """Run an experiment, by several processes where that was asked for, and print its table."""
    from icl.experiments.experiment import check_processes, run_experiment
    from icl.processes import connect
    from icl.processes.launch import launch, launched

    if processes > 1 and not launched():
        check_processes(experiment, processes)
        code = launch(sys.argv[1:], processes)
        if code:
            sys.exit(code)
        return
    devices = [model.device or "" for model in experiment.by_name.values()]
    with connect(cpu=all(device.startswith("cpu") for device in devices)) as group:
        if not group.main:
            warnings.simplefilter("ignore")  # the main process says it
        outcome = run_experiment(
            experiment, folder, command=command, limit=limit, processes=group, track=track
        )
    if group.main:
        _show(outcome)


def _show(outcome: Comparison) -> None:
    from rich.console import Console

    from icl.reporting import print_table
    from icl.tools.progress import event

    event("report", path=str(outcome.report))
    console = Console()
    print_table(outcome.records, console, outcome.meta_training, outcome.models, outcome.tuning)
    _name_file(console, "Report", outcome.report)


def _run_prompts(config: str, out: Path | None, data: Path | None, limit: int | None) -> None:
    """Run a prompt study and print what it says."""
    from rich.console import Console

    from icl.experiments.prompt_study import load_study, run_study
    from icl.reporting.prompts_terminal import print_sensitivity

    study = load_study(find_config(config)).with_data(data)
    command = f"icl prompts {config}" + ("" if limit is None else f" --limit {limit}")
    found, page = run_study(study, study.folder(out), command=command, limit=limit)
    console = Console()
    print_sensitivity(found, console)
    _name_file(console, "Report", page)


def _name_file(console: Console, what: str, path: Path | None) -> None:
    console.print(f"{what}: {path}", soft_wrap=True, highlight=False, markup=False)
