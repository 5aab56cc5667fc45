"""The command line. Each command imports what it needs when it runs, so that help is quick."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from icl.cli import check, episodes, tasks
from icl.cli.compare import compare
from icl.cli.diagnose import diagnose
from icl.cli.doctor import doctor
from icl.cli.export import export, merge
from icl.cli.faults import told
from icl.cli.methods import methods
from icl.cli.plan import plan
from icl.cli.predict import predict
from icl.cli.run import prompts, report, resume, run
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


for _command in (
    *(run, resume, report, prompts, export, compare),
    *(diagnose, plan, predict, methods, merge, doctor),
):
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
