"""Check intervals and tests on simulated experiments of which the truth is known.

Each experiment is a run as people can afford one: 12, 24 or 48 draws by four learners, three of
them equal and one better. Its episodes come from icl's own sampler and variants, its
clusters from `icl.evaluation.grid`, as a board's do; made up is only whether a query is labelled
right. That depends on the draw (its nested support sets), on the item, on the query in its draw,
and on each learner's own luck with all three.

    python scripts/simulate_statistics.py --figure docs/statistics.svg
    python scripts/simulate_statistics.py --quick

The last line is one JSON object: the worst and best coverage of our 95 % intervals and the worst
rate of false alarms (equal learners told apart at p < 0.05) over all worlds and numbers of draws,
and every rate behind them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from scipy.stats import norm

from icl.episodes import EpisodeSampler, Setting
from icl.episodes.variants import VARIANTS, without_variant
from icl.evaluation.grid import grid
from icl.evaluation.paired import mcnemar, permutations
from icl.evaluation.pairs import cluster_totals
from icl.evaluation.statistics import ClusteredSample, clustered_sample, holm_pairs
from icl.runs.record import ACCURACY, Cost, EpisodeRecord
from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.task import Example
from icl.tasks.template import Template

DRAWS, LEARNERS = (12, 24, 48), 4
PEERS_AT = 24  # draws
BETTER = 0.35  # how much better the last learner is, in standard deviations of a query's luck
LAYOUTS, BATCH = 20, 25  # sets of episodes in each world; experiments that are judged at once
NESTED = 0.7  # the share of a draw's variance that all its shots, variants and languages have
SAME_QUERY = 0.7  # the share of a query's luck that it keeps in all episodes of a draw
OURS = {
    "accuracy": "icl: accuracy",
    "difference": "icl: difference of two learners",
    "any of three, Holm": "icl: any of three differences, Holm",
}
COVERAGE, FALSE_ALARMS = (0.93, 0.97), (0.03, 0.07)


@dataclass(frozen=True)
class World:
    """What is drawn, and how alike queries are, in standard deviations of a query's luck."""

    items: int = 100
    level: float = 0.3
    draw_sd: float = 0.3
    item_sd: float = 0.3
    graded: bool = False
    shots: tuple[int, ...] = (1,)
    variants: tuple[str, ...] = ("plain",)
    languages: int = 1
    settings: int = 1
    queries: tuple[int, int] = (10, 10)


WORLDS = {
    "independent queries": World(2000, draw_sd=0, item_sd=0),
    "alike in a draw": World(2000, draw_sd=0.45, item_sd=0),
    "alike where items recur": World(40, draw_sd=0, item_sd=0.45),
    "alike in both ways": World(),
    "few items": World(24),
    "near the ceiling": World(level=1.5),
    "graded scores": World(graded=True),
    "two shots": World(400, shots=(1, 4)),
    "three shots": World(shots=(1, 2, 4), draw_sd=0.45),
    "variants": World(400, shots=(2,), variants=("plain", "shuffled-labels", "flipped-labels")),
    "parallel languages": World(400, languages=3),
    "two settings": World(400, settings=2, shots=(1, 4)),
    "unequal episodes": World(400, shots=(1, 4), queries=(4, 20)),
    "all of these": World(
        400, shots=(1, 4), variants=("plain", "shuffled-labels"), languages=2, settings=2,
        queries=(4, 20),
    ),
}  # fmt: skip


def family(world: World) -> TaskFamily:
    """Return one task of two labels in parallel languages."""

    def load(task: str, language: str) -> Task:
        examples = tuple(
            Example(f"{language}/{n}", {"text": f"{language} {n}"}, "ab"[n % 2], language, str(n))
            for n in range(world.items)
        )
        words = {"a": "a", "b": "b"}
        return Task(
            task, language, examples, ("a", "b"), words, Template("{{ text }}", "{{ label }}")
        )

    languages = tuple(f"l{n}" for n in range(world.languages))
    return TaskFamily("simulated", load, {"test": Split("test", ("task",), languages)})


def records(world: World, draws: int, seed: int) -> Iterator[EpisodeRecord]:
    """Yield a record of each episode; what they say is right is of no account."""
    rng, tasks = np.random.default_rng(seed), family(world)
    for number in range(world.settings):
        sizes = rng.integers(world.queries[0], world.queries[1] + 1, draws)
        for language in tasks.split("test").languages:
            sampler = EpisodeSampler(
                tasks, "test", ways=2, shots=world.shots, queries=world.queries[1],
                setting=Setting(f"setting {number}"), languages=[language], seed=seed,
            )  # fmt: skip
            for plain in sampler.episodes(draws // world.settings):
                for variant in world.variants:
                    episode = VARIANTS[variant](plain) if variant in VARIANTS else plain
                    query = episode.query[: sizes[episode.index]]
                    some = len(query)
                    yield EpisodeRecord(
                        "anyone", "majority", "key", episode.fingerprint, episode.task,
                        episode.setting, episode.split, episode.index, 2, episode.shots, language,
                        language, ("a", "b"), tuple(e.id for e in query),
                        tuple(e.parallel_id for e in query), ((-0.1, -2.4),) * some, (0,) * some,
                        (0,) * some, Cost(0, 0, 0.0, 0.0, 0),
                    )  # fmt: skip


class Layout:
    """The episodes of one run, and the numbers of all that its queries have in common."""

    def __init__(self, world: World, draws: int, seed: int) -> None:
        lined_up = grid(records(world, draws, seed))
        self.world, self.sample = world, lined_up.scores(ACCURACY)
        of = [(row[0], item) for row in lined_up.episodes for item in row[0].parallel_ids]
        # what is drawn once is known here from how it was drawn, not from what icl makes of it
        draw = [(without_variant(record.setting), record.index) for record, _ in of]
        self.draw, self.episode = _numbers(draw), _numbers([r.fingerprint for r, _ in of])
        self.item = _numbers([item for _, item in of])
        self.query = _numbers([(d, item) for d, (_, item) in zip(draw, of, strict=True)])
        shift = np.array([_shift(record) for record, _ in of])
        level = np.full((LEARNERS, 1), world.level)
        level[-1] += BETTER
        self.level = level + shift
        spread = np.sqrt(1 + 2 * world.draw_sd**2 + 2 * world.item_sd**2)
        self.truth = norm.cdf(self.level / spread) @ self.sample.weights

    def outcomes(self, rng: np.random.Generator, experiments: int) -> Any:
        """Draw right and wrong, or scores of the same mean: (experiments, learners, queries)."""

        def effect(codes: Any, shared: bool = False) -> Any:
            shape = (experiments, 1 if shared else LEARNERS, int(codes.max()) + 1)
            return rng.standard_normal(shape)[..., codes]

        world, z = self.world, np.broadcast_to(self.level, (experiments, *self.level.shape))
        for shared in (True, False):
            nested = np.sqrt(NESTED) * effect(self.draw, shared)
            z = z + world.draw_sd * (nested + np.sqrt(1 - NESTED) * effect(self.episode, shared))
            z = z + world.item_sd * effect(self.item, shared)
        if world.graded:
            chance = norm.cdf(z)
            return rng.beta(4 * chance, 4 * (1 - chance))
        own = np.sqrt(1 - SAME_QUERY) * rng.standard_normal(z.shape)
        return (z + np.sqrt(SAME_QUERY) * effect(self.query) + own > 0).astype(float)


def _shift(record: EpisodeRecord) -> float:
    """Return how much easier an episode is than the first kind; fixed, as languages are."""
    harder = 0.3 * record.changed + 0.15 * (record.query_language != "l0")
    return 0.3 * (record.shots > 1) - harder - 0.5 * record.setting.startswith("setting 1")


def _numbers(names: list[Any]) -> Any:
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in names])


def simulate(
    world: World, draws: int, experiments: int, seed: int, peers: int = 0
) -> dict[str, dict[str, float]]:
    """Return rates by kind and method; slow peers are tried on `peers` of the experiments."""
    rng = np.random.default_rng(seed)
    hits: dict[str, list[float]] = {}
    equal = np.triu_indices(LEARNERS - 1, 1)

    def note(name: str, value: Any) -> None:
        hits.setdefault(name, []).append(float(np.mean(value)))

    for number in range(LAYOUTS):
        layout = Layout(world, draws, seed * LAYOUTS + number)
        truth, left = layout.truth, experiments // LAYOUTS
        gap = truth[-1] - truth[0]
        for start in range(0, left, BATCH):
            some = min(BATCH, left - start)
            outcomes = layout.outcomes(rng, some)
            # experiments of one layout stand as further series in one sample
            sample = replace(layout.sample, values=outcomes.reshape(some * LEARNERS, -1))
            means, d = sample.means(), sample.differences()
            low, high = (x.reshape(some, LEARNERS) for x in (means.low, means.high))
            note("coverage/accuracy", (low <= truth) & (truth <= high))
            at = np.arange(some * LEARNERS).reshape(some, LEARNERS)
            low, high, p = (x[at[:, :, None], at[:, None]] for x in (d.low, d.high, d.p))
            note("coverage/difference", (low[:, -1, :-1] <= gap) & (gap <= high[:, -1, :-1]))
            note("false alarms/difference", p[:, equal[0], equal[1]] < 0.05)
            any_of_three = [holm_pairs(one[:-1, :-1]).min() < 0.05 for one in p]
            note("false alarms/any of three, Holm", any_of_three)
            note("power/difference", p[:, -1, :-1] < 0.05)
            for values in outcomes[: max(0, peers // LAYOUTS - start)]:
                for name, value in judged_by_peers(layout, values, rng):
                    note(name, value)
    found: dict[str, dict[str, float]] = {}
    for name, rates in hits.items():
        kind, _, method = name.partition("/")
        found.setdefault(kind, {})[method] = round(float(np.mean(rates)), 4)
    return found


def judged_by_peers(
    layout: Layout, values: Any, rng: np.random.Generator
) -> Iterator[tuple[str, Any]]:
    """Yield what people do instead, on one experiment: (learners, queries)."""
    truth, sample = layout.truth, replace(layout.sample, values=values)
    totals, _ = cluster_totals(sample)
    found = permutations([totals[0] - totals[1]], draws=499)
    yield "false alarms/permutation of draws", found[0] < 0.05
    if not layout.world.graded:
        yield "false alarms/McNemar, clusters ignored", mcnemar(*(values[:2] == 1)) < 0.05
    for which, name in enumerate(("draws", "items")):
        low, high = percentile(sample, which, rng)
        yield f"coverage/bootstrap of {name}", (low <= truth) & (truth <= high)
    each = np.arange(len(sample.weights))
    for codes, name in ((layout.episode, "clustered by episode"), (each, "clusters ignored")):
        other = clustered_sample(values, codes.tolist(), weights=sample.weights)
        means = other.means()
        yield f"coverage/{name}", (means.low <= truth) & (truth <= means.high)
        yield f"false alarms/{name}", other.differences().p[0, 1] < 0.05


def percentile(sample: ClusteredSample, which: int, rng: np.random.Generator, draws: int = 400):
    """Return bootstrap intervals of all series over one clustering, for comparison."""
    codes = sample.clusters[which]
    groups = int(codes.max()) + 1
    times = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)[:, codes]
    times = times * sample.weights
    means = (times @ sample.values.T) / times.sum(axis=1, keepdims=True)
    return np.quantile(means, [0.025, 0.975], axis=0)


def draw(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path, title: str) -> None:
    """Draw coverage and false alarms of every world, and the bands that are asked for."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from icl.reporting.palette import LIGHT, MARKERS

    worlds = list(found)
    panels = (
        ("coverage", "Coverage of 95 % intervals", COVERAGE, (0.45, 1.0)),
        ("false alarms", "Equal learners told apart, p < 0.05", FALSE_ALARMS, (0.0, 0.5)),
    )
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "icl", "font.size": 10})
        figure = Figure(figsize=(12.6, 7.8), layout="constrained")
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
            names = ["\n".join(wrap(world, 12)) for world in worlds]
            axis.set_xticks(range(len(worlds)), names, fontsize=9)
            axis.set(ylim=limits, ylabel=heading)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(loc="lower left" if kind == "coverage" else "upper left", ncols=3,
                        frameon=False, fontsize=9)  # fmt: skip
        figure.suptitle(title, fontsize=11)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(path, metadata=nothing if path.suffix == ".svg" else None)


def main() -> None:
    """Simulate, draw, and say whether all rates lie where they should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=2000, help="in each world and size")
    parser.add_argument("--peers", type=int, default=300, help="of them, for the other methods")
    parser.add_argument("--quick", action="store_true", help="1000 experiments, ours alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=None, help="an SVG or PNG file")
    asked, found = parser.parse_args(), dict[str, dict[int, Any]]()
    experiments, peers = (1000, 0) if asked.quick else (asked.experiments, asked.peers)
    for name, world in WORLDS.items():
        found[name] = {
            n: simulate(world, n, experiments, asked.seed, peers * (n == PEERS_AT)) for n in DRAWS
        }
        for n, rates in found[name].items():
            print(f"{name}, {n} draws", json.dumps(rates), flush=True)
    if asked.figure is not None:
        title = f"{experiments} simulated experiments of {PEERS_AT} draws in each world"
        draw({n: sizes[PEERS_AT] for n, sizes in found.items()}, asked.figure, title)
    every = [rates for sizes in found.values() for rates in sizes.values()]
    coverage = [rates["coverage"][m] for rates in every for m in ("accuracy", "difference")]
    alarms = [rates["false alarms"]["difference"] for rates in every]
    summary = {
        "worst_coverage": min(coverage),
        "best_coverage": max(coverage),
        "worst_false_alarms": max(alarms),
        "least_false_alarms": min(alarms),
        "worst_any_of_three": max(rates["false alarms"]["any of three, Holm"] for rates in every),
        "asked": {"coverage": COVERAGE, "false_alarms": FALSE_ALARMS},
        "experiments": experiments,
        "draws": DRAWS,
        "worlds": {name: asdict(world) for name, world in WORLDS.items()},
        "found": found,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
