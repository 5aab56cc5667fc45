"""What is drawn once: the one definition by which everything that pools episodes is clustered.

An interval says what new episodes would give, so the unit that counts is what would be drawn anew:
a *draw*. All shots of a draw share their queries and nested supports, its label variants share
both, and so do its languages where the same index was drawn in several: these episodes are one
cluster. Two settings draw from streams of their own and share nothing, even at the same index (see
`icl.episodes.sampler`); where somebody has made a setting of the same queries, it is the same draw.

Records do not say which stream they stem from, but they show it: episodes of one task, split and
index that ask for mostly the same items are of one draw. Mostly, since a language may lack an
item, and the rows of all others then move up by one. Two seeds are apart by the same rule.

How many draws a setting has is fixed by the experiment: settings are strata. Translations of one
item, and the same item in several draws, are the second clustering.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icl.evaluation.statistics import ClusteredSample
    from icl.runs.record import EpisodeRecord

    Items = frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class Asked:
    """What of an episode tells its draw; `items` are the parallel ids of its queries."""

    task: str
    split: str
    index: int
    setting: str
    items: Collection[Hashable]


def number_draws(episodes: Iterable[Asked]) -> list[int]:
    """Number episodes by draw, from 0 in the order of appearance.

    >>> number_draws(Asked("t", "test", n, "s", items)
    ...              for n, items in [(0, "xyz"), (0, "xy!"), (0, "!?"), (1, "xyz")])
    [0, 0, 1, 2]
    """
    asked = [((e.task, e.split, e.index), frozenset(e.items)) for e in episodes]
    places: dict[Hashable, list[set[Items]]] = {}
    for place, items in dict.fromkeys(asked):
        groups = places.setdefault(place, [])
        alike = [group for group in groups if any(_mostly(items, other) for other in group)]
        groups[:] = [group for group in groups if group not in alike]
        groups.append({items}.union(*alike))
    names = {
        (place, items): (place, n)
        for place, groups in places.items()
        for n, group in enumerate(groups)
        for items in group
    }
    numbers: dict[object, int] = {}
    return [numbers.setdefault(names[key], len(numbers)) for key in asked]


def _mostly(one: Items, other: Items) -> bool:
    return one == other or 2 * len(one & other) > min(len(one), len(other))


def strata(episodes: Sequence[Asked], draws: Sequence[int]) -> list[object] | None:
    """Return each episode's stratum, the settings of its draw; None where one has a single draw."""
    from icl.episodes.variants import without_variant

    settings: dict[int, set[tuple[str, str]]] = {}
    for episode, draw in zip(episodes, draws, strict=True):
        settings.setdefault(draw, set()).add((episode.split, without_variant(episode.setting)))
    names = {draw: frozenset(found) for draw, found in settings.items()}
    of_each = list(names.values())
    if any(of_each.count(name) < 2 for name in set(of_each)):
        return None
    return [names[draw] for draw in draws]


def asked(records: Iterable[EpisodeRecord]) -> list[Asked]:
    """Return what tells each record's draw."""
    return [Asked(r.task, r.split, r.index, r.setting, r.parallel_ids) for r in records]


def draws(records: Iterable[EpisodeRecord]) -> list[int]:
    """Return the number of each record's draw, from 0 in the order of appearance."""
    return number_draws(asked(records))


def clustered(series: Sequence[Sequence[EpisodeRecord]], metric: str) -> ClusteredSample:
    """Return each series' score of each query, clustered by draw and by item.

    Every episode weighs the same. An item is a (task, parallel id): the same item in another
    language or another draw is not an independent one.

    Args:
        series: records of the same episodes in the same order, a series a learner.
        metric: what judges all of them.
    """
    from icl.evaluation.statistics import clustered_sample

    rows = series[0]
    episodes = asked(rows)
    numbers = number_draws(episodes)
    fixed = strata(episodes, numbers)

    def each(of_episodes: Iterable[object]) -> list[object]:
        return [x for x, row in zip(of_episodes, rows, strict=True) for _ in row.query_ids]

    return clustered_sample(
        [[x for record in one for x in record.outcomes(metric)] for one in series],
        each(numbers),
        [(record.task, item) for record in rows for item in record.parallel_ids],
        weights=[1 / len(record.query_ids) for record in rows for _ in record.query_ids],
        strata=None if fixed is None else each(fixed),
    )
