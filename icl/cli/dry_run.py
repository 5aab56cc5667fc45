"""``icl run --dry-run``: the plan, and what it will take."""

from __future__ import annotations

from pathlib import Path

import typer

from icl.experiments.config import load_config
from icl.reporting.numbers import count, duration
from icl.tools.shipped import find_config


def dry_run(
    config: str, out: Path | None, data: Path | None, limit: int | None, overrides: list[str]
) -> None:
    """Print what an experiment will do; see `icl.experiments.forecast.forecast`."""
    from icl.experiments.forecast import forecast

    experiment = load_config(find_config(config), overrides).with_data(data)
    folder = experiment.folder(out)
    plan = forecast(experiment, folder, limit)
    model = experiment.model.name
    if plan.parameters is None or plan.bytes is None:
        typer.echo(f"Model {model}: its files are not at hand, so that times stay open.")
    else:
        typer.echo(
            f"Model {model}: {count(plan.parameters)} parameters, {plan.bytes / 2**30:.1f} GiB of"
            f" weights in {experiment.model.dtype}"
            f"{', before they are quantised' if experiment.model.quantise else ''}."
        )
    width = max(len(line.learner) for line in plan.lines)
    typer.echo(f"{'learner':{width}}  episodes  done  steps    tokens  about")
    for line in plan.lines:
        tokens = "?" if line.tokens is None else count(line.tokens)
        took = "?" if line.seconds is None else duration(line.seconds)
        how = " (measured here)" if line.measured else ""
        typer.echo(
            f"{line.learner:{width}}  {line.episodes:8}  {line.done:4}  {line.steps:5}"
            f"  {tokens:>8}  {took}{how}"
        )
    known = [line.seconds for line in plan.lines if line.seconds is not None]
    total = duration(sum(known)) + (" and what is open" * (len(known) < len(plan.lines)))
    typer.echo(f"In all about {total}, in {folder}. Nothing was run.")
    if not all(line.measured for line in plan.lines):
        typer.echo(
            "Times that were not measured come from tokens, and may be off by a factor of a few;"
            f" a look of one episode measures them: icl run {config} --limit 1"
        )
