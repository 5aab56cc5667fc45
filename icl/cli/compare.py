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
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Every pair of learners with every test, instead of boards."),
    ] = False,
) -> None:
    """Put runs side by side; refused, with the reason, where their episodes differ.

    Example: icl compare runs/small runs/large --pairs --table csv
    """
    from rich.console import Console

    from icl.evaluation.side_by_side import together
    from icl.evaluation.summary import summarise
    from icl.reporting import print_table
    from icl.reporting.boards import pair_table
    from icl.reporting.boards import table as written
    from icl.reporting.effort import effort_beside
    from icl.reporting.terminal import print_pairs
    from icl.runs.finished import read_run
    from icl.runs.folder import RunFolder

    found = [read_run(RunFolder(folder)) for folder in runs]
    joined = together(found)
    if table is None and not pairs:
        said = effort_beside({str(run.folder): run.tuning for run in found})
        print_table(joined.records, Console(), joined.meta_training, joined.models, said=said)
        return
    summary = summarise(joined.records, joined.meta_training, models=joined.models)
    if table is None:
        print_pairs(summary.pairs, Console())
    else:
        text = pair_table(summary.pairs, table) if pairs else written(summary, table)
        sys.stdout.write(text)
