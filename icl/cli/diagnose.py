"""The command ``icl diagnose``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def diagnose(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="A run of the same learners on other episodes, e.g. of the train split."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="All figures as JSON.")] = False,
) -> None:
    """Ask a run what the field argues about: labels, memory, prompts, languages, shots, inner loop.

    Example: icl diagnose runs/quickstart
    """
    from rich.console import Console

    from icl.evaluation.diagnosis import diagnose_run
    from icl.reporting.diagnosis_terminal import print_answers
    from icl.runs.finished import read_run
    from icl.runs.folder import RunFolder

    answers = diagnose_run(
        read_run(RunFolder(run)), [read_run(RunFolder(other)) for other in beside or ()]
    )
    if json_:
        made = [asdict(answer) | {"answered": answer.answered} for answer in answers]
        sys.stdout.write(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    else:
        print_answers(answers, Console())
