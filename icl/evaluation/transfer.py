"""From which language to which: accuracy by the support set's and the queries' language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icl.evaluation.grid import Grid


@dataclass(frozen=True, slots=True)
class Transfer:
    """A matrix for each learner.

    Attributes:
        supports: the languages that learners adapted in, the rows.
        queries: the languages that they were judged in, the columns.
        counts: queries behind each cell that there is, by (support, query) language.
        accuracy: by learner, each cell's mean over episodes, as a share.
    """

    supports: tuple[str, ...]
    queries: tuple[str, ...]
    counts: Mapping[tuple[str, str], int]
    accuracy: Mapping[str, Mapping[tuple[str, str], float]]


def transfer(whole: Grid, metric: str) -> Transfer | None:
    """Return the transfer matrices, or None where no episode goes from one language to another.

    All plain settings and shots are pooled; episodes whose labels were changed (see
    `icl.episodes.variants`) and those without examples are left out.

    Args:
        whole: the records.
        metric: what they are scored by.
    """
    values: dict[str, dict[tuple[str, str], list[float]]] = {name: {} for name in whole.learners}
    counts: dict[tuple[str, str], int] = {}
    for row in whole.episodes:
        first = row[0]
        if first.changed or first.shots == 0:
            continue
        cell = (first.support_language, first.query_language)
        counts[cell] = counts.get(cell, 0) + len(first.query_ids)
        for record in row:
            outcomes = record.outcomes(metric)
            values[record.learner].setdefault(cell, []).append(sum(outcomes) / len(outcomes))
    if all(support == query for support, query in counts):
        return None
    return Transfer(
        supports=tuple(sorted({support for support, _ in counts})),
        queries=tuple(sorted({query for _, query in counts})),
        counts=dict(sorted(counts.items())),
        accuracy={
            name: {cell: sum(v) / len(v) for cell, v in sorted(cells.items())}
            for name, cells in values.items()
        },
    )
