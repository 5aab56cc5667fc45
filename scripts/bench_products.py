"""Single-precision products with frozen weights: oneDNN against torch's usual way (MKL on x86).

Products of the packaged Gemma's sizes, interleaved, the best of --repeats; four weights in turn, so
that none stays in the nearest cache. The last line is one JSON object: `ratio_median` over all
sizes, `ratio_min`, and GFLOP/s by size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from icl.models.packed.products import product

SIZES = [(640, 2048), (2048, 640), (640, 1024), (640, 256), (1024, 640)]


def best(runs: list[Callable[[], None]], repeats: int) -> list[float]:
    """Return the least seconds of each, measured in turns."""
    times = [float("inf")] * len(runs)
    for _ in range(repeats + 1):  # the first is slower and never the least
        for i, run in enumerate(runs):
            began = time.perf_counter()
            run()
            times[i] = min(times[i], time.perf_counter() - began)
    return times


def each(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    weights: list[torch.Tensor],
) -> None:
    """Multiply by each weight."""
    for weight in weights:
        function(x, weight)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rows, few repeats")
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    repeats = 3 if asked.quick else asked.repeats
    found = {}
    for rows in (24, 256) if asked.quick else (24, 256, 1024, 2048):
        for width, out in SIZES:
            x = torch.randn(rows, width)
            weights = [torch.randn(out, width) for _ in range(4)]
            torch.testing.assert_close(
                product(x, weights[0]), x @ weights[0].T, atol=1e-3, rtol=1e-4
            )
            usual, ours = best(
                [partial(each, f, x, weights) for f in (torch.nn.functional.linear, product)],
                repeats,
            )
            flops = 2 * 4 * rows * width * out / 1e9
            found[f"{rows}x{width}x{out}"] = [round(flops / usual, 1), round(flops / ours, 1)]
            print(f"{rows} x {width} x {out}: {flops / usual:.0f}, {flops / ours:.0f} GFLOP/s")
    ratios = [ours / usual for usual, ours in found.values()]
    result = {
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "threads": torch.get_num_threads(),
        "gflops": found,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    with torch.no_grad():
        main()
