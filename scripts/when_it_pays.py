"""When does meta-training pay? Curves of its gain, each with a control.

Cheap learners on frozen embeddings are meta-trained on more or fewer languages, classes and outer
steps, on a narrow distribution of tasks, and beside each other. A gain is a paired difference on
identical episodes: to the best learner without meta-training, and to the same learner untrained.

    python scripts/when_it_pays.py --data ../shared/data      # within an hour on one core
    python scripts/when_it_pays.py --data ../shared/data --quick --only languages
    python scripts/when_it_pays.py --data ../shared/data --only second-order   # not timed yet

`--data` holds the folders `sib200` and `clinc150`. What is done is kept under `--out`, a run's
folder each, so that the script goes on where it stopped. Learning rates are chosen first, out of
the same for each learner, on validation episodes. The page's parts between marker comments, and the
figures beside it, are written anew; its other text is left alone. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import curve_runs as runs
import gain_curves as curves
import gain_figures as shown
from gain_curves import Point, Trial
from paged import Block, put

from icl.runs.finished import FinishedRun

Parts = Iterator[tuple[Block, Any]]
SECOND_OVER_FIRST = {"maml": "fomaml", "protomaml": "first-order-protomaml"}


def rates_block(
    work: runs.Work, family: str, learners: Sequence[str]
) -> tuple[dict[str, float], Block]:
    """Choose the rates of some learners on a family's validation episodes, and tell them."""
    run, best, mean = runs.rates(work, family, learners)
    lines = [
        f"| {family} | {' | '.join(f'{r:g}' for r in work.size.rates)} | chosen |",
        "| --- " * (2 + len(work.size.rates)) + "|",
    ]
    for name, rate in best.items():
        cells = [f"{100 * mean[f'{name} {r:g}']:.1f}" for r in work.size.rates]
        lines.append(f"| {name} | {' | '.join(cells)} | {rate:g} |")
    return best, Block(f"rates-{family}", [run], lines)


def languages_part(work: runs.Work) -> Parts:
    """Tell the gain against languages, and against outer steps."""
    best, block = rates_block(work, "sib200", runs.ALL)
    yield block, best
    run, languages, steps = runs.sib200(work, best)
    yield gain_block(run, "languages", languages, "training languages", "languages")
    yield gain_block(run, "steps", steps, "outer steps", "steps")


def classes_part(work: runs.Work) -> Parts:
    """Tell the gain against training classes."""
    best, block = rates_block(work, "clinc150", runs.LEARNERS)
    yield block, best
    run, trials = runs.classes(work, best)
    yield gain_block(run, "classes", trials, "training classes", "classes")


def gain_block(
    run: FinishedRun, name: str, trials: Sequence[Trial], title: str, unit: str
) -> tuple[Block, Any]:
    """Make a curve's part of the page, and its figures as JSON values."""
    found = curves.curve(run.records, trials, list(runs.FLOORS))
    file = f"when-it-pays-{name}.svg"
    svg = shown.gain_figure(found, title, ticks=sorted({p.x for p in found}))
    floors = floor_lines(run)
    lines = [
        f"{found[0].draws} draws, each at every number of shots;"
        f" chance {100 * found[0].chance:.1f} %. {floors}",
        "",
        f"![Gain of meta-training against {title}]({file})",
        "",
        *shown.verdicts(found, unit),
        *shown.gain_table(found, title),
    ]
    return Block(name, [run], lines, {file: svg}), [plain(p) for p in found]


def floor_lines(run: FinishedRun) -> str:
    """Say what the learners without meta-training reach."""
    own = [r for r in run.records if r.learner in runs.FLOORS]
    trials = [Trial(name, name, 1.0) for name in runs.FLOORS]
    found = curves.curve(own, trials, list(runs.FLOORS))
    return "Without meta-training: " + "; ".join(
        f"{p.learner} at {p.shots} shot{'s' * (p.shots != 1)} {shown.plus_minus(p.accuracy)}"
        for p in found
    ) + "."  # fmt: skip


def narrow_part(work: runs.Work) -> Parts:
    """Tell from when on a narrow distribution is memorised."""
    run, trials = runs.narrow(work, rates_block(work, "sib200", runs.ALL)[0])
    found = {
        said: curves.curve(run.records, trials, list(runs.FLOORS), split=split)
        for split, said in runs.NARROW_SPLITS.items()
    }
    file = "when-it-pays-narrow.svg"
    svg = shown.memory_figure(found, "outer steps", ticks=list(work.size.steps))
    first = next(iter(found.values()))
    lines = [
        f"{first[0].draws} draws of each kind of episodes, 3 ways, 1 shot; chance"
        f" {100 * first[0].chance:.1f} %.",
        "",
        f"![Accuracy on what was trained and on what was not]({file})",
        "",
    ]
    for split, said in list(runs.NARROW_SPLITS.items())[1:]:
        fallen = curves.since_the_peak(run.records, trials, split=split, shots=1)
        for name, (peak, later) in fallen.items():
            lost = [(x, d) for x, d in later.items() if d.high < 0]
            after = (
                f"clearly worse from {lost[0][0]:g} steps on ({shown.gain(lost[0][1])})"
                if lost
                else "no later place is clearly worse"
            )
            lines.append(f"- `{name}`, {said}: best after {peak:g} steps; {after}.")
    lines += ["", "| learner | steps | " + " | ".join(found) + " | training texts by lot |"]
    lines.append("| --- " * (3 + len(found)) + "|")
    for place, p in enumerate(first):
        cells = [shown.plus_minus(own[place].accuracy) for own in found.values()]
        lot = "" if p.control is None else shown.plus_minus(p.control)
        lines.append(f"| {p.learner} | {p.x:g} | {' | '.join(cells)} | {lot} |")
    told = {said: [plain(p) for p in own] for said, own in found.items()}
    yield Block("narrow", [run], lines, {file: svg}), told


def rivals_part(work: runs.Work, family: str) -> Parts:
    """Tell meta-learners against multi-task training."""
    best, block = rates_block(work, family, runs.ALL)
    yield block, best
    run, trials, needed, count = runs.rivals(work, family, best)
    own = curves.curve(run.records, trials, ["multitask"])
    (itself, *_) = by_shots = curves.curve(
        run.records, [Trial("multitask", "multitask", 1.0)], ["multitask"]
    )
    accuracies = [f"{shown.plus_minus(p.accuracy)} at shots {p.shots}" for p in by_shots]
    file = f"when-it-pays-rivals-{family}.svg"
    lines = [
        f"{count} draws, chance {100 * itself.chance:.1f} %; `multitask`: {', '.join(accuracies)}."
        f" A pilot of {work.size.pilot} draws says how many are needed.",
        "",
        f"![Paired differences to multi-task training on {family}]({file})",
        "",
        "| learner | shots | accuracy | over multitask | half-width | draws needed | by lot |",
        "| --- " * 7 + "|",
    ]
    for p in own:
        number = needed[p.learner, p.shots]
        lot = "" if p.control is None else shown.plus_minus(p.control)
        lines.append(
            f"| {p.learner} | {p.shots} | {shown.plus_minus(p.accuracy)}"
            f" | {shown.gain(p.over_floor)} | {100 * p.over_floor.half:.1f}"
            f" | {'no number is enough' if number is None else number} | {lot} |"
        )
    svg = shown.rivals_figure({family: own}, "multitask")
    yield Block(f"rivals-{family}", [run], lines, {file: svg}), [plain(p) for p in own]


def second_order_part(work: runs.Work) -> Parts:
    """Tell second-order meta-gradients against first-order ones."""
    run = runs.second_order(work)
    names = [name for name in run.config["learners"] if name in run.meta_training]
    floors = [name for name in run.config["learners"] if name not in names]
    found = curves.curve(run.records, [Trial(name, name, 1.0) for name in names], floors)
    lines = [
        f"- `{p.learner}` over `{first}`, {p.shots} shot{'s' * (p.shots != 1)}:"
        f" {shown.gain(p.over_floor)}."
        for second, first in SECOND_OVER_FIRST.items()
        for p in curves.curve(run.records, [Trial(second, second, 1.0)], [first])
    ]
    lines += [
        "",
        "| learner | shots | accuracy | over the best without meta-training | meta-training |",
        "| --- " * 5 + "|",
    ]
    for p in found:
        spent = run.meta_training[p.learner]
        lines.append(
            f"| {p.learner} | {p.shots} | {shown.plus_minus(p.accuracy)}"
            f" | {shown.gain(p.over_floor)} ({p.floor})"
            f" | {spent['seconds']:.0f} s, {spent['steps']:.0f} steps |"
        )
    yield Block("second-order", [run], lines), [plain(p) for p in found]


def plain(point: Point) -> dict[str, Any]:
    """Return a point as JSON values, in percent and points."""
    gains = {"over_floor": point.over_floor, "over_itself": point.over_itself}
    return {
        "learner": point.learner,
        "x": point.x,
        "shots": point.shots,
        "accuracy": round(100 * point.accuracy.value, 1),
        "floor": point.floor,
        "by_lot": None if point.control is None else round(100 * point.control.value, 1),
        **{
            name: None if d is None else [round(100 * v, 1) for v in (d.value, d.low, d.high)]
            for name, d in gains.items()
        },
    }


PARTS: Mapping[str, Callable[[runs.Work], Parts]] = {
    "languages": languages_part,
    "rivals": partial(rivals_part, family="sib200"),
    "narrow": narrow_part,
    "classes": classes_part,
    "rivals-clinc150": partial(rivals_part, family="clinc150"),
    "second-order": second_order_part,
}
BY_REQUEST = ("second-order",)


def main() -> None:
    """Run what is left, write the page and its figures; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="holds sib200 and clinc150")
    parser.add_argument("--out", type=Path, default=Path("runs/when-it-pays"))
    parser.add_argument(
        "--page", type=Path, help="by default docs/when-it-pays.md; quick: in --out"
    )
    parser.add_argument("--quick", action="store_true", help="two points and four draws of each")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", default=None)
    asked = parser.parse_args()
    out = asked.out / "quick" if asked.quick else asked.out
    work = runs.Work(asked.data, out, runs.QUICK if asked.quick else runs.FULL)
    page = asked.page or (out / "when-it-pays.md" if asked.quick else Path("docs/when-it-pays.md"))
    command = "python scripts/when_it_pays.py --data DATA" + " --quick" * asked.quick
    began, told = time.perf_counter(), {}
    for name in asked.only or [p for p in PARTS if p not in BY_REQUEST]:
        for block, result in PARTS[name](work):
            put(page, block, command + f" --only {name}" * (name in BY_REQUEST))
            told[block.name] = result
    took = time.perf_counter() - began
    print(f"{page} is written; this call took {took:.0f} s")
    print(json.dumps({"page": str(page), "quick": asked.quick, "results": told}))


if __name__ == "__main__":
    main()
