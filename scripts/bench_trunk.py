"""What it saves to keep what an encoder's frozen layers make of a text.

The packaged multilingual-e5-small takes outer steps of two tasks of SIB-200 (5 ways, 3 shots, 75
queries; the folder that holds `sib200/`, by --data or ICL_TEST_DATA, by default ../shared/data)
with LoRA on the top 4 of its 12 layers and 3 inner steps, as FOMAML (first order) and as MAML
(second order). Each task runs by itself, as meta-training on a CPU runs them.

Timed in turn: `whole`, all texts of a side as one padded pass through all 12 layers at each look,
with no trunk; `first`, texts that are seen for the first time; `again`, the same texts again.
Seconds of processor time and of the clock are medians over repeats; ratios are medians of ratios of
processor time within a repeat. `apart` is the largest difference between the meta-gradients of
`whole` and `again`, relative to the gradient's norm. The last line is one JSON object. `--quick`
takes few queries and one repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import icl
from icl.episodes.episode import Episode
from icl.learners.gradient import states
from icl.learners.registry import make

MODEL = "packaged:multilingual-e5-small"
PARAMS = {"top_layers": 4, "inner_steps": 3}
Timed = tuple[float, float]


def step(learner: Any, episodes: list[Episode]) -> dict[str, Tensor]:
    """Take one outer step's meta-gradient, task by task."""
    parameters = learner.trainable_parameters()
    for value in parameters.values():
        value.grad = None
    for episode in episodes:
        loss, _ = learner.meta_loss([episode])
        torch.autograd.backward(loss / len(episodes))
    return {name: value.grad.clone() for name, value in parameters.items()}


def timed(work: Callable[[], Any]) -> Timed:
    """Return seconds of the processor and of the clock."""
    busy, began = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - busy, time.perf_counter() - began


def in_one_pass(texts: list[Any]) -> list[list[int]]:
    """Let all texts run as one padded pass."""
    return [list(range(len(texts)))]


def measure(method: str, model: Any, episodes: list[Episode], repeats: int) -> dict[str, Any]:
    """Time one order in its three ways, in turn."""
    learner: Any = make(method, PARAMS, model)
    learner.at_step(1, 10)  # no looks at losses
    times: dict[str, list[Timed]] = {"whole": [], "first": [], "again": []}
    found: dict[str, dict[str, Tensor]] = {}
    below = learner.below

    def take(name: str) -> None:
        def work() -> None:
            found[name] = step(learner, episodes)

        times[name].append(timed(work))

    step(learner, episodes)
    for _ in range(repeats):
        learner.below = 0
        with patch.object(states, "of_similar_length", in_one_pass):
            take("whole")
        learner.below = below
        model.text_trunks.clear()
        take("first")
        take("again")
    out: dict[str, Any] = {}
    for name, own in times.items():
        out[f"{name}_cpu_s"] = round(median(busy for busy, _ in own), 2)
        out[f"{name}_s"] = round(median(clock for _, clock in own), 2)
    for name in ("first", "again"):
        pairs = zip(times["whole"], times[name], strict=True)
        out[f"ratio_{name}"] = round(median(w[0] / n[0] for w, n in pairs), 2)
    off = sum(float((v - found["again"][n]).square().sum()) for n, v in found["whole"].items())
    size = sum(float(v.square().sum()) for v in found["whole"].values())
    out["apart"] = float(f"{(off / size) ** 0.5:.1g}")
    return out


def main() -> None:
    """Print a line for each order, and all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds sib200/")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few queries, one repeat")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    folder = asked.data or Path(os.environ.get("ICL_TEST_DATA", "../shared/data"))
    os.environ["ICL_DATA_SIB200"] = str(folder / "sib200")
    model = icl.load_model(MODEL, device="cpu")
    drawn = icl.episodes.draw(
        icl.load_task("sib200"), ways=5, shots=[3], queries=10 if asked.quick else 75, count=2,
        seed=0,
    )  # fmt: skip
    episodes = [episode.posed() for episode in drawn]
    printed: dict[str, Any] = {"threads": asked.threads}
    for method in ("fomaml", "maml"):
        printed[method] = measure(method, model, episodes, 1 if asked.quick else asked.repeats)
        print(method, printed[method], flush=True)
    print(json.dumps(printed))


if __name__ == "__main__":
    main()
