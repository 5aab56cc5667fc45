"""A board's warnings, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from icl.evaluation.alarms import Alarms
from icl.reporting.numbers import percent, points

_NAMED = 5  # learners that a line names


def alarm_lines(alarms: Alarms) -> Iterator[str]:
    """Yield a line for each floor that is not beaten, and for each learner of one answer."""
    by_floor = groupby(alarms.unbeaten, key=lambda one: (one.floor, one.score))
    for (floor, score), group in by_floor:
        behind = list(group)
        told = [
            f"{one.learner} ({points(one.difference)}, {points(one.low)} to {points(one.high)})"
            for one in behind[:_NAMED]
        ]
        more = [f"{len(behind) - _NAMED} more"] if len(behind) > _NAMED else []
        yield (
            f"Not clearly above {floor} ({percent(score)}), which uses no language model:"
            f" {', '.join([*told, *more])}; in points, with 95 % intervals of the paired"
            " difference."
        )
    for one in alarms.one_answer:
        yield (
            f"{one.learner} gives one label to {percent(one.share)} of an episode's queries, though"
            f" it is right for {percent(one.right)}: it may answer so whatever a text says."
        )
