"""Check intervals and tests on simulated experiments of which the truth is known.

Each simulated experiment is a run as people can afford one: 24 episodes of 10 queries, drawn from a
pool of items, by four learners. Whether a query is labelled right depends on the episode (its
support set), on the item, and on each learner's own luck with both. In every world two learners are
equal, one is better, and their true accuracies are known.

    python scripts/simulate_statistics.py --experiments 2000 --figure docs/statistics.svg

The last line is one JSON object: for each world and method the coverage of 95 % intervals and the
rate at which equal learners are told apart at p < 0.05.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from icl.evaluation.paired import mcnemar, permutation
from icl.evaluation.statistics import ClusteredSample, clustered_sample, holm_pairs

EPISODES, QUERIES, LEARNERS = 24, 10, 4
BETTER = 0.6  # how much better the last learner is, in logits
OURS = {
    "accuracy": "icl: accuracy",
    "difference": "icl: difference of two learners",
    "any of three, Holm": "icl: any of three differences, Holm",
}
COVERAGE, FALSE_ALARMS = (0.93, 0.97), (0.03, 0.07)


@dataclass(frozen=True)
class World:
    """How alike queries are: standard deviations in logits."""

    items: int
    level: float
    episode_sd: float
    item_sd: float
    graded: bool = False


WORLDS = {
    "independent queries": World(2000, 0.5, 0.0, 0.0),
    "alike in an episode": World(2000, 0.5, 0.7, 0.0),
    "alike where items recur": World(40, 0.5, 0.0, 0.7),
    "alike in both ways": World(100, 0.5, 0.5, 0.5),
    "few items": World(20, 0.5, 0.5, 0.5),
    "near the ceiling": World(100, 2.5, 0.5, 0.5),
    "graded scores": World(100, 0.5, 0.5, 0.5, graded=True),
}


def experiment(rng: np.random.Generator, world: World) -> ClusteredSample:
    """Draw one experiment; all learners but the last are equal."""
    ids = np.stack([rng.permutation(world.items)[:QUERIES] for _ in range(EPISODES)])
    level = np.full(LEARNERS, world.level)
    level[-1] += BETTER
    logit = (
        level[:, None, None]
        + rng.normal(0, world.episode_sd, (1, EPISODES, 1))
        + rng.normal(0, world.episode_sd, (LEARNERS, EPISODES, 1))
        + rng.normal(0, world.item_sd, world.items)[ids][None]
        + rng.normal(0, world.item_sd, (LEARNERS, world.items))[:, ids]
    )
    values = outcome(rng, logit, world).reshape(LEARNERS, -1)
    episodes = np.repeat(np.arange(EPISODES), QUERIES).tolist()
    return clustered_sample(values, episodes, ids.ravel().tolist())


def outcome(rng: np.random.Generator, logit: Any, world: World) -> Any:
    """Return right and wrong, or a score between 0 and 1 with the same mean."""
    chance = 1 / (1 + np.exp(-logit))
    if world.graded:
        return rng.beta(4 * chance, 4 * (1 - chance))
    return (rng.random(logit.shape) < chance).astype(float)


def true_means(world: World) -> Any:
    """Return each learner's true accuracy, by numerical integration over the effects."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(2 * world.episode_sd**2 + 2 * world.item_sd**2)
    level = np.full(LEARNERS, world.level)
    level[-1] += BETTER
    chance = 1 / (1 + np.exp(-(level[:, None] + spread * nodes)))
    return chance @ weights / weights.sum()


def percentile(sample: ClusteredSample, which: int, rng: np.random.Generator, draws: int = 400):
    """Return bootstrap intervals of all series over one clustering, for comparison."""
    codes = sample.clusters[which]
    groups = int(codes.max()) + 1
    times = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)[:, codes]
    means = (times @ sample.values.T) / times.sum(axis=1, keepdims=True)
    return np.quantile(means, [0.025, 0.975], axis=0)


def simulate(world: World, experiments: int, seed: int, peers: int) -> dict[str, dict[str, float]]:
    """Return rates by method; slow peers are tried on the first `peers` experiments only."""
    rng = np.random.default_rng(seed)
    truth = true_means(world)
    gap = truth[-1] - truth[0]
    hits: dict[str, list[float]] = {}

    def note(name: str, value: float | bool) -> None:
        hits.setdefault(name, []).append(float(value))

    equal = np.triu_indices(LEARNERS - 1, 1)
    for number in range(experiments):
        sample = experiment(rng, world)
        means, differences = sample.means(), sample.differences()
        note("coverage/accuracy", np.mean((means.low <= truth) & (truth <= means.high)))
        inside = (differences.low[-1, :-1] <= gap) & (gap <= differences.high[-1, :-1])
        note("coverage/difference", np.mean(inside))
        note("false alarms/difference", np.mean(differences.p[equal] < 0.05))
        family = holm_pairs(differences.p[:-1, :-1])[equal]
        note("false alarms/any of three, Holm", bool((family < 0.05).any()))
        note("power/difference", np.mean(differences.p[-1, :-1] < 0.05))
        if number >= peers:
            continue
        by_episode = sample.values[:2].reshape(2, EPISODES, QUERIES).mean(axis=2)
        note("false alarms/permutation of episodes",
             permutation(by_episode[0] - by_episode[1], draws=499, seed=number) < 0.05)  # fmt: skip
        if not world.graded:
            a, b = sample.values[:2] == 1
            note("false alarms/McNemar, clusters ignored", mcnemar(a, b) < 0.05)
        for which, name in enumerate(("episodes", "items")):
            low, high = percentile(sample, which, rng)
            note(f"coverage/bootstrap of {name}", np.mean((low <= truth) & (truth <= high)))
        flat = clustered_sample(sample.values, list(range(EPISODES * QUERIES))).means()
        note("coverage/clusters ignored", np.mean((flat.low <= truth) & (truth <= flat.high)))
    found: dict[str, dict[str, float]] = {}
    for name, values in hits.items():
        kind, _, method = name.partition("/")
        found.setdefault(kind, {})[method] = round(float(np.mean(values)), 4)
    return found


def draw(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path, title: str) -> None:
    """Draw coverage and false alarms of every world, with the bands that are asked for."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from icl.reporting.palette import LIGHT, MARKERS

    worlds = list(found)
    panels = (
        ("coverage", "Coverage of 95 % intervals", COVERAGE, (0.6, 1.0)),
        ("false alarms", "Equal learners told apart, p < 0.05", FALSE_ALARMS, (0.0, 0.25)),
    )
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "icl", "font.size": 10})
        figure = Figure(figsize=(8.4, 7.4), layout="constrained")
        axes = figure.subplots(2, 1)
        for axis, (kind, heading, band, limits) in zip(axes, panels, strict=True):
            methods = list(dict.fromkeys(m for world in worlds for m in found[world][kind]))
            axis.axhspan(*band, color="#d9ead3", zorder=0)
            for n, method in enumerate(methods):
                shift = 0.6 * ((n + 0.5) / len(methods) - 0.5)
                points = [
                    (x + shift, found[world][kind][method])
                    for x, world in enumerate(worlds)
                    if method in found[world][kind]
                ]
                axis.plot(
                    *zip(*points, strict=True), MARKERS[n % len(MARKERS)][0],
                    color=LIGHT[n % len(LIGHT)], markersize=6, label=OURS.get(method, method),
                    clip_on=False,
                )  # fmt: skip
            axis.set_xticks(range(len(worlds)), ["\n".join(wrap(world, 12)) for world in worlds])
            axis.set_ylim(*limits)
            axis.set_ylabel(heading)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(loc="lower left" if kind == "coverage" else "upper left", ncols=2,
                        frameon=False, fontsize=9)  # fmt: skip
        figure.suptitle(title, fontsize=11)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(path, metadata=nothing if path.suffix == ".svg" else None)


def main() -> None:
    """Simulate, draw, and say whether all rates lie where they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=2000, help="in each world")
    parser.add_argument("--peers", type=int, default=500, help="of them, for the slow methods")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=None, help="an SVG or PNG file")
    asked = parser.parse_args()
    found = {}
    for name, world in WORLDS.items():
        found[name] = simulate(world, asked.experiments, asked.seed, asked.peers)
        print(name, json.dumps(found[name]), flush=True)
    ours = {
        "coverage": [x for w in found.values() for m, x in w["coverage"].items()
                     if m in {"accuracy", "difference"}],
        "false alarms": [w["false alarms"]["difference"] for w in found.values()],
    }  # fmt: skip
    if asked.figure is not None:
        title = f"{asked.experiments} simulated experiments in each of {len(WORLDS)} worlds"
        draw(found, asked.figure, title)
    sys.stdout.flush()
    print(
        json.dumps(
            {
                "experiments": asked.experiments,
                "episodes": EPISODES,
                "queries": QUERIES,
                "coverage": [min(ours["coverage"]), max(ours["coverage"])],
                "false_alarms": [min(ours["false alarms"]), max(ours["false alarms"])],
                "asked": {"coverage": COVERAGE, "false_alarms": FALSE_ALARMS},
                "worlds": {n: asdict(w) for n, w in WORLDS.items()},
                "found": found,
            }
        )
    )


if __name__ == "__main__":
    main()
