"""Does adapting pay? Compares meta-trained starts as they are with what adapting makes of them.

    icl run configs/sib200_meta.yaml
    python scripts/adapting.py --prepare runs/sib200_meta  # writes runs/sib200_starts.yaml
    icl run runs/sib200_starts.yaml
    python scripts/adapting.py runs/sib200_meta

The first run meta-trains and adapts, on episodes as they are and with shuffled support labels; the
second takes the same starts without one step (``NAME-start``), beside calibration, which mends how
often each label is said without any label of the support set. Prints a table in Markdown:
accuracies, the paired difference that adapting makes (clustered bootstrap and test), and how far
the shares of the predicted labels lie from the true ones (total variation, mean over episodes): a
learner that gains as much from labels dealt by lot, and whose shares come right, has learned from
its support set how often each label is right and not which text is which.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

import icl
from icl.evaluation.analysis import compare
from icl.exchange.adapter import export_learner
from icl.reporting.numbers import p_value, percent, points

if TYPE_CHECKING:
    from pandas import DataFrame


STARTS = ("multitask-lora", "fomaml", "maml", "maml++", "meta-sgd", "reptile", "anil", "imaml")
CALIBRATED = {
    "zero-shot-contextual": {"method": "zero-shot", "calibration": "contextual"},
    "zero-shot-batch": {"method": "zero-shot", "calibration": "batch"},
}


def main() -> None:
    """Prepare the second run, or print the table of both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of the run with meta-training")
    parser.add_argument("--prepare", action="store_true", help="write the second run's experiment")
    options = parser.parse_args()
    starts_run = options.run.with_name(options.run.name.replace("_meta", "") + "_starts")
    if options.prepare:
        experiment = starts_run.with_suffix(".yaml")
        experiment.write_text(
            yaml.safe_dump(prepare(options.run, starts_run.name), sort_keys=False)
        )
        print(f"Run this next: icl run {experiment}")
    else:
        print_table(options.run, starts_run)


def prepare(run: Path, name: str) -> dict[str, Any]:
    """Export a run's meta-trained starts; return the experiment that judges them as they are.

    protomaml's is left out: without the support set it has no output layer.
    """
    experiment: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    learners = dict(CALIBRATED)
    for learner, params in experiment["learners"].items():
        if params.get("training") and params["method"] in STARTS:
            folder = run / "starts" / learner
            if not folder.exists():
                export_learner(run, learner, folder)
            layers = {"top_layers": params["top_layers"]} if params.get("top_layers") else {}
            learners[f"{learner}-start"] = {
                "method": "lora",
                "steps": 0,
                "start": str(folder),
                **layers,
            }
    experiment["episodes"].pop("variants", None)
    return {**experiment, "name": name, "learners": learners}


def print_table(run: Path, starts_run: Path) -> None:
    """Print the table of two runs."""
    every, starts = (icl.open_run(folder).queries() for folder in (run, starts_run))
    changed = every.setting.str.contains("+", regex=False)
    plain, shuffled = every[~changed], every[changed]
    print(
        "| learner | its start | adapted | adapted to shuffled labels | adapting, points | p"
        " | shares off: start | adapted | shuffled |\n" + "| --- " * 9 + "|"
    )
    for name in starts.learner.unique():
        learner = name.removesuffix("-start")
        start = starts[starts.learner == name]
        if learner == name:
            cells = [name, _accuracy(start), "", "", "", "", f"{off(start):.2f}", "", ""]
        else:
            adapted, lot = (every[every.learner == learner] for every in (plain, shuffled))
            cells = [
                learner, *map(_accuracy, (start, adapted, lot)), *_gain(start, adapted),
                *(f"{off(queries):.2f}" for queries in (start, adapted, lot)),
            ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


def off(queries: DataFrame) -> float:
    """Return the mean total variation between the shares of predicted and of true labels."""
    distances = []
    for _, episode in queries.groupby("episode"):
        shares = [episode[column].value_counts(normalize=True) for column in ("prediction", "gold")]
        distances.append(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
    return float(sum(distances) / len(distances))


def _accuracy(queries: DataFrame) -> str:
    return percent(float(queries.right.mean()))


def _gain(start: DataFrame, adapted: DataFrame) -> tuple[str, str]:
    """Return what adapting adds, with its interval, and the p-value."""
    pair = compare(pd.concat([adapted, start])).iloc[-1]  # the first learner less the second
    interval = f"{points(pair.difference)} ({points(pair.low)} to {points(pair.high)})"
    return interval, p_value(float(pair.p))


if __name__ == "__main__":
    main()
