"""Sinusoid regression (Finn et al. 2017, section 5.1) by icl's own algorithm classes.

Tasks are ``y = a sin(x + p)`` with a in [.1, 5], p in [0, pi] and x in [-5, 5]; a net of two layers
of 40 ReLU learns from 10 points and is judged on 1,000 others. What needs no tuning to know: always
saying zero has a mean squared error of 4.252, and no predictor that does not adapt is better than
3.006. The classes in `icl.learners.gradient.algorithms` are those that run on LoRA; here their
parameters are the net's, with a task axis.

The table and the figure show the error after 0 to 10 inner steps on tasks that meta-training never
saw. The last line is one JSON object; `best` names each algorithm's smallest error over the steps.

    python scripts/sinusoid.py                         # some minutes on one core
    python scripts/sinusoid.py --figure docs/sinusoid.svg
    python scripts/sinusoid.py --quick
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from icl.learners.gradient.algorithms import (
    FOMAML,
    MAML,
    Adam,
    MetaAlgorithm,
    MetaSGD,
    Problem,
    Reptile,
)

ZERO, BOUND = 4.252, 3.006
_POINTS, _TASKS, _STEPS = 10, 25, 10

# algorithm, outer rate of Adam, iterations
ALGORITHMS: Mapping[str, tuple[MetaAlgorithm, float, int]] = {
    "MAML": (MAML(1, 0.01), 1e-3, 6_000),
    "FOMAML": (FOMAML(5, 0.01), 1e-3, 4_000),
    "Reptile": (Reptile(10, 0.01, Adam(beta1=0.0)), 1e-3, 3_000),
    "Meta-SGD": (MetaSGD(1, 0.01), 1e-3, 6_000),
}


def net(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return a net's answers: x of shape (tasks, points, 1), parameters with a task axis."""
    for layer in (1, 2):
        x = torch.relu(x @ params[f"w{layer}"] + params[f"b{layer}"][:, None])
    return x @ params["w3"] + params["b3"][:, None]


def first_net(seed: int) -> dict[str, Tensor]:
    """Draw a net: weights uniform in 1/sqrt(inputs), no task axis."""
    generator = torch.Generator().manual_seed(seed)
    params: dict[str, Tensor] = {}
    for layer, (size, out) in enumerate(((1, 40), (40, 40), (40, 1)), start=1):
        bound = 1 / math.sqrt(size)
        params[f"w{layer}"] = bound * (2 * torch.rand(size, out, generator=generator) - 1)
        params[f"b{layer}"] = torch.zeros(out)
    return params


def draw(tasks: int, points: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw sinusoids: x and y, each of shape (tasks, points, 1)."""
    amplitude = 0.1 + 4.9 * torch.rand(tasks, 1, 1, generator=generator)
    phase = math.pi * torch.rand(tasks, 1, 1, generator=generator)
    x = 10 * torch.rand(tasks, points, 1, generator=generator) - 5
    return x, amplitude * torch.sin(x + phase)


def pose(x: Tensor, y: Tensor) -> Problem:
    """Pose regression from the first points to the others."""

    def loss(part: slice) -> object:
        return lambda params: (net(params, x[:, part]) - y[:, part]).square().mean((1, 2))

    return Problem(len(x), loss(slice(_POINTS)), loss(slice(_POINTS, None)))  # type: ignore[arg-type]


def train(
    algorithm: MetaAlgorithm, rate: float, iterations: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Meta-train by Adam; return the start and what else was learned."""
    start = first_net(seed)
    learned = algorithm.learned(start)
    meta = {**start, **learned}
    optimiser = torch.optim.Adam(meta.values(), lr=rate)
    generator = torch.Generator().manual_seed(seed + 1)
    for step in range(iterations):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 - step / iterations) if step > iterations / 2 else rate
        problem = pose(*draw(_TASKS, 2 * _POINTS, generator))
        found = algorithm.meta_step(start, learned, problem, step / iterations)
        for name, value in meta.items():
            value.grad = found.gradients[name]
        optimiser.step()
    return start, learned


def judge(
    algorithm: MetaAlgorithm, start: Mapping[str, Tensor], learned: Mapping[str, Tensor]
) -> list[float]:
    """Return the mean squared error on unseen tasks after 0, 1, … inner steps."""
    problem = pose(*draw(500, _POINTS + 1000, torch.Generator().manual_seed(10**6)))
    errors = []
    for steps in range(_STEPS + 1):
        params = replace(algorithm, adapt_steps=steps).adapt(start, learned, problem)
        with torch.no_grad():
            errors.append(float(problem.query(params).mean()))
    return errors


def figure(curves: Mapping[str, list[float]], path: Path) -> None:
    """Draw the errors over inner steps, with the bound that only adaptation can beat."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, errors), marker in zip(curves.items(), "osd^", strict=True):
        shown = [e if e < 10 else math.nan for e in errors]  # Meta-SGD is trained for one step
        axes.plot(range(len(errors)), shown, marker=marker, markersize=4, label=name)
    axes.axhline(BOUND, color="0.35", linestyle="--", linewidth=1)
    axes.annotate(
        f"best without adapting: {BOUND}", (_STEPS, BOUND), xytext=(0, 3),
        textcoords="offset points", ha="right", fontsize=8, color="0.35",
    )  # fmt: skip
    axes.set(xlabel="inner steps on 10 points", ylabel="mean squared error", yscale="log")
    ticks = [0.2, 0.5, 1, 2, 3, 4]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.88))
    axes.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train and judge the four algorithms; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the iterations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, help="where to write the figure (.svg or .png)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    curves, iterations = {}, {}
    for name, (algorithm, rate, count) in ALGORITHMS.items():
        began = time.perf_counter()
        iterations[name] = count // 10 if args.quick else count
        start, learned = train(algorithm, rate, iterations[name], args.seed)
        curves[name] = judge(algorithm, start, learned)
        shown = " ".join(f"{e:.2f}" for e in curves[name])
        took = time.perf_counter() - began
        print(
            f"{name:9} {iterations[name]:6} iterations, {took:4.0f} s,"
            f" error after 0-10 steps: {shown}",
            flush=True,
        )
    if args.figure:
        figure(curves, args.figure)
    best = {
        name: round(min(e for e in errors if math.isfinite(e)), 3)
        for name, errors in curves.items()
    }
    print(f"without adapting no predictor is better than {BOUND}; zero has {ZERO}")
    print(
        json.dumps(
            {
                "best": best,
                "beats_bound": all(v < BOUND for v in best.values()),
                "bound": BOUND,
                "iterations": iterations,
                "errors": {
                    n: [round(e, 3) if math.isfinite(e) else None for e in c]
                    for n, c in curves.items()
                },
            }
        )
    )


if __name__ == "__main__":
    main()
