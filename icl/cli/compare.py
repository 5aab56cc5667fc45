"""The command ``icl compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="The folders of two runs or more.")],
    table: Annotated[
        str | None, typer.Option(help="Write the boards as csv, md or latex instead.")
    ] = None,
) -> None:
    """Put runs side by side; refused, with the reason, where their episodes differ."""
    from rich.console import Console

    from icl.evaluation.finished import read_run
    from icl.evaluation.summary import summarise
    from icl.evaluation.together import together
    from icl.reporting import print_table
    from icl.reporting.tables import table as written

    found = [read_run(folder) for folder in runs]
    joined = together(found)
    if table is None:
        print_table(joined.records, Console(), joined.meta_training)
    else:
        sys.stdout.write(written(summarise(joined.records, joined.meta_training), table))
