"""What a run costs as it grows: episodes, ways, shots, languages and processes.

Each figure is one `icl run` in a process of its own, on SIB-200 (in the folder named by
ICL_TEST_DATA, by default ../shared/data) with the packaged Gemma 3 270M. Each axis changes one
number of the base case (5 ways, 1 shot, 4 queries, one language):

- episodes: `majority`, which computes nothing, so that what is measured is the toolkit itself:
  seconds an episode, and the peak memory of the whole process, report included, and of the run
  without its report, from the largest `peak_memory_mb` of its records;
- ways, shots, languages: `in-context`, seconds and tokens an episode from the records;
- processes: the same in-context run by 1 and 2 processes, one thread each, for few and for many
  episodes: the difference of the two commands' times is what the further episodes take, without
  the start.

The fit is seconds = fixed + tokens * rate over all in-context records of one process (least squares
by episode). The forecast takes the measured tokens an episode and share of the time that is not
computing to GPUs and a larger model: see `forecast`. The last line is one JSON object. `--quick`
takes the smallest numbers only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore

AXES = ("episodes", "ways", "shots", "languages", "processes")
DATA = Path(os.environ.get("ICL_TEST_DATA", "../shared/data")) / "sib200"


@dataclass(frozen=True)
class Case:
    """One run: its episodes, learner and processes."""

    axis: str
    value: int
    method: str = "in-context"
    ways: int = 5
    shots: int = 1
    count: int = 4
    languages: tuple[str, ...] = ("swh_Latn",)
    processes: int = 1


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Attributes:
        case: the run.
        seconds: of the whole command.
        peak_mib: of the largest process, report included.
        records: what it wrote.
    """

    case: Case
    seconds: float
    peak_mib: float
    records: Sequence[EpisodeRecord]


def cases(quick: bool) -> list[Case]:
    """Return the runs, one axis after the other."""
    languages = all_languages()
    grow = (20, 200) if quick else (100, 1000, 5000)
    found = [Case("episodes", n, "majority", count=n) for n in grow]
    found += [Case("ways", n, ways=n) for n in ((2, 5) if quick else (2, 5, 7))]
    found += [Case("shots", n, shots=n) for n in ((0, 1) if quick else (0, 1, 4, 8))]
    found += [
        Case("languages", n, languages=languages[:n], count=n)
        for n in ((1, 2) if quick else (1, 6, 24))
    ]
    return found + [
        Case("processes", n, count=count, processes=n)
        for n in (1, 2)
        for count in ((2, 6) if quick else (4, 24))
    ]


def all_languages() -> tuple[str, ...]:
    """Return the languages whose data are at hand."""
    return tuple(sorted(path.name for path in DATA.iterdir() if path.is_dir()))


def family(folder: Path) -> Path:
    """Write SIB-200 as one split of all languages, as nothing is trained here."""
    path = folder / "all.yaml"
    splits = {"train": None, "validation": None,
              "test": {"data": ["test"], "languages": list(all_languages())}}  # fmt: skip
    definition = {"schema_version": 1, "name": "sib200-all", "extends": "sib200"}
    path.write_text(yaml.safe_dump(definition | {"splits": splits, "disjoint": []}))
    return path


def config(case: Case, model: str, tasks: Path) -> str:
    """Write a case as an experiment."""
    return yaml.safe_dump(
        {
            "schema_version": 1,
            "name": "scale",
            "model": {"name": model},
            "tasks": {"family": str(tasks)},
            "episodes": {
                "split": "test",
                "ways": case.ways,
                "shots": [case.shots],
                "queries": 4,
                "count": case.count,
                "languages": list(case.languages),
            },
            "learners": {case.method: {"method": case.method}},
        }
    )


def measure(case: Case, model: str, folder: Path) -> Measured:
    """Run a case."""
    place = folder / f"{case.axis}-{case.value}-{case.count}"
    path = place.with_suffix(".yaml")
    path.write_text(config(case, model, family(folder)))
    command = [sys.executable, "-m", "icl", "run", str(path), "--data", str(DATA)]
    command += ["--out", str(place)]
    if case.processes > 1:
        command += ["--processes", str(case.processes)]
    began = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    told = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{told[-2000:]}")
    return Measured(case, seconds, usage.ru_maxrss / 1024, RecordStore(place).read())


def fit(runs: Sequence[Measured]) -> dict[str, float]:
    """Fit seconds an episode as a line in the tokens computed."""
    found = [r for run in runs if run.case.method == "in-context" for r in run.records
             if run.case.processes == 1]  # fmt: skip
    tokens = np.array([record.cost.computed_tokens for record in found], float)
    seconds = np.array([record.cost.seconds for record in found])
    table = np.stack([np.ones_like(tokens), tokens], 1)
    (fixed, slope), *_ = np.linalg.lstsq(table, seconds, rcond=None)
    left = seconds - table @ np.array([fixed, slope])
    return {
        "fixed_seconds": round(float(fixed), 4),
        "seconds_per_1000_tokens": round(float(slope) * 1000, 4),
        "r2": round(1 - float(left.var() / seconds.var()), 4),
        "records": len(found),
    }


def forecast(tokens: float, languages: int = 1000, episodes: int = 10_000) -> dict[str, Any]:
    """Say what a model of 70 billion parameters in bfloat16 would take on 1, 8 and 64 GPUs.

    Arithmetic, not measured: a forward pass takes 2 operations a parameter and token (Kaplan et al.
    2020, arXiv 2001.08361, table 1); a GPU with 80 GB does 4e14 of them a second, 40 % of what
    present ones promise; the weights must be shared by two such GPUs, so one alone is not enough.

    Args:
        tokens: computed an episode, as measured with 5 ways, 8 shots and 4 queries.
        languages: in which episodes are drawn.
        episodes: a language.
    """
    parameters, rate, memory = 70e9, 4e14, 80e9
    seconds = languages * episodes * tokens * 2 * parameters / rate
    weights = 2 * parameters
    return {
        "tokens_an_episode": round(tokens),
        "weights_gb": round(weights / 1e9),
        "gpus_for_the_weights": -(-weights // memory),
        **{f"days_on_{gpus}_gpus": round(seconds / gpus / 86400, 1) for gpus in (1, 8, 64)},
    }


def summary(runs: Sequence[Measured]) -> dict[str, Any]:
    """Return all figures as plain values."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        costs = [record.cost for record in run.records]
        rows.setdefault(run.case.axis, []).append(
            {
                run.case.axis: run.case.value,
                "episodes": len(run.records),
                "wall_seconds": round(run.seconds, 2),
                "episode_seconds": round(statistics.fmean(c.seconds for c in costs), 4),
                "episode_tokens": round(statistics.fmean(c.computed_tokens for c in costs)),
                "run_peak_mib": round(max(c.peak_memory_mb for c in costs)),
                "command_peak_mib": round(run.peak_mib),
            }
        )
    figures: dict[str, Any] = dict(rows)
    if len(rows.keys() - {"episodes"}) > 0:
        figures["fit"] = fit(runs)
    if "shots" in rows:
        figures["forecast_70b"] = forecast(rows["shots"][-1]["episode_tokens"])
    if "processes" in rows:
        figures["speedup_2_processes"] = speedup(runs)
    return figures


def speedup(runs: Sequence[Measured]) -> float:
    """Return how many times faster two processes work, the start of the command left out."""

    def rate(processes: int) -> float:
        few, many = sorted(
            (run for run in runs if run.case.axis == "processes"
             and run.case.processes == processes),
            key=lambda run: run.case.count,
        )  # fmt: skip
        return (many.seconds - few.seconds) / (len(many.records) - len(few.records))

    return round(rate(1) / rate(2), 3)


def show(figures: Mapping[str, Any]) -> None:
    """Print the figures as a table for each axis."""
    for axis, rows in figures.items():
        if isinstance(rows, list):
            print(f"\n{axis}")
            for row in rows:
                print("  " + "  ".join(f"{name} {value}" for name, value in row.items()))


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest numbers only")
    parser.add_argument("--axes", nargs="+", choices=AXES, default=AXES, help="only some axes")
    parser.add_argument("--model", default="packaged:gemma-3-270m")
    asked = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is missing; set ICL_TEST_DATA to the folder that holds sib200.")
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for case in (case for case in cases(asked.quick) if case.axis in asked.axes):
            runs.append(measure(case, asked.model, Path(folder)))
            print(f"{case.axis} {case.value}: {runs[-1].seconds:.1f} s", flush=True)
    figures = summary(runs)
    show(figures)
    print(json.dumps({"benchmark": "scale", "quick": asked.quick, "model": asked.model, **figures}))


if __name__ == "__main__":
    main()
