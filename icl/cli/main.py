"""The command line. Each command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import os
import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from icl.cli import check, episodes, tasks
from icl.cli.compare import compare
from icl.cli.diagnose import diagnose
from icl.cli.doctor import doctor
from icl.cli.faults import told
from icl.cli.merge import merge
from icl.cli.methods import methods
from icl.cli.plan import plan
from icl.cli.predict import predict
from icl.errors import one_line
from icl.processes.launch import launched
from icl.version import __version__

app = typer.Typer(
    help="Compare the ways a language model can learn a new task, on identical episodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(tasks.app, name="tasks")
app.add_typer(episodes.app, name="episodes")
app.add_typer(check.app, name="check")


class LogFormat(str, Enum):
    """How a command speaks on standard error."""

    TEXT = "text"
    JSON = "json"


# The options that `run` and `resume` share.
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

_EXIT_USER_FAULT = 2


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"icl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Compare the ways a language model can learn a new task, on identical episodes."""


@app.command()
def run(
    config: Annotated[
        str, typer.Argument(help="An experiment's YAML file, or the name of one icl brings along.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; by default runs/<the experiment's name>.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A local directory with the task family's data.")
    ] = None,
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
    from icl.cli.dry_run import dry_run as only_plan
    from icl.cli.run import run_command

    if dry_run:
        only_plan(config, out, data, limit, set_ or [])
    else:
        run_command(
            config,
            out,
            data,
            limit,
            processes=processes,
            track=track or (),
            form=log_format.value,
            overrides=set_ or (),
        )


@app.command()
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
    from icl.cli.run import run_command

    run_command(
        None,
        folder,
        None,
        limit,
        processes=processes,
        track=track or (),
        form=log_format.value,
    )


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    plots: Annotated[
        bool, typer.Option("--plots", help="Write its plots as SVG and PNG into RUN/plots, too.")
    ] = False,
) -> None:
    """Write the report of a run's folder again and print its table.

    Example: icl report runs/quickstart --plots
    """
    from icl.cli.run import report_command

    report_command(run, plots=plots)


@app.command()
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
    from icl.cli.prompts import prompts_command
    from icl.cli.run import guarded

    with guarded():
        prompts_command(config, out, data, limit)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    learner: Annotated[str, typer.Argument(help="A meta-trained learner's name in that run.")],
    out: Annotated[Path, typer.Argument(help="The directory to make.")],
    push: Annotated[
        str | None, typer.Option(help="Upload it to the Hub as this repository, owner/name.")
    ] = None,
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
) -> None:
    """Write a meta-trained start as a PEFT adapter, with its learned rates and a model card.

    Example: icl export runs/quickstart fomaml adapter
    """
    from icl.cli.export import export_command

    export_command(run, learner, out, push, private)


for _command in (compare, diagnose, plan, predict, methods, merge, doctor):
    app.command()(_command)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"Note: {one_line(message)}\n")


def main() -> None:
    """Run the command line; what the user can mend is told in one sentence, with exit code 2."""
    warnings.showwarning = _warn
    if launched():  # torch would tell of lost connections in its own way, with stack frames
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        app()
    except Exception as error:
        fault = told(error)
        if fault is None:
            raise
        sys.stderr.write(f"icl: {one_line(fault)}\n")
        sys.exit(_EXIT_USER_FAULT)
