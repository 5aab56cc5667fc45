"""The command ``icl plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icl.errors import IclError


def plan(
    pilot: Annotated[Path, typer.Argument(help="The folder of a pilot run.")],
    difference: Annotated[
        float, typer.Option(help="The true difference that is to be seen, in percentage points.")
    ],
    power: Annotated[float, typer.Option(help="The chance to see it.")] = 0.8,
    comparisons: Annotated[
        int | None,
        typer.Option(help="How many the p-values will be corrected for; by default all pairs."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is to differ; by default accuracy, or the first.")
    ] = None,
) -> None:
    """Say how many episodes it takes to see a difference, from a pilot run."""
    from rich.console import Console

    from icl.errors import did_you_mean
    from icl.evaluation.grid import grid
    from icl.reporting.plan_terminal import print_plan
    from icl.runs.finished import read_run
    from icl.runs.folder import RunFolder

    if not 0 < difference < 100:
        raise IclError(f"--difference is {difference:g}; give percentage points, e.g. 5.")
    if not 0 < power < 1:
        raise IclError(f"--power is {power:g}; give a share below 1, e.g. 0.8.")
    if comparisons is not None and comparisons < 1:
        raise IclError(f"--comparisons is {comparisons}; give their number, at least 1.")
    whole = grid(read_run(RunFolder(pilot)).records)
    metric = metric or whole.metrics[0]
    if metric not in whole.metrics:
        raise IclError(f"No episode is judged by {metric!r}." + did_you_mean(metric, whole.metrics))
    part = whole.where(metric=metric).plain
    if len(part.learners) < 2 or part.draws < 2:
        raise IclError(
            f"{pilot} has {len(part.learners)} learner(s) and {part.draws} draw(s) of episodes that"
            f" {metric} judges; a pilot needs two of each or more."
        )
    print_plan(
        part,
        metric,
        Console(),
        difference=difference / 100,
        power=power,
        comparisons=comparisons,
    )
