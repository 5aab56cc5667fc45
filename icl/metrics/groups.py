"""Accuracy where it is worst, and what crossing languages costs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Group = TypeVar("Group", bound=Hashable)


def by_group(right: Sequence[bool], groups: Sequence[Group]) -> dict[Group, float]:
    """Return the accuracy of each group, in the order of appearance.

    Raises:
        ValueError: unequal lengths, or no query.
    """
    if len(right) != len(groups) or not len(right):
        raise ValueError("give the group of every query, and at least one query")
    found: dict[Group, list[bool]] = {}
    for hit, group in zip(right, groups, strict=True):
        found.setdefault(group, []).append(bool(hit))
    return {group: sum(hits) / len(hits) for group, hits in found.items()}


def worst(right: Sequence[bool], groups: Sequence[Group]) -> tuple[Group, float]:
    """Return the group with the lowest accuracy and that accuracy; of equals, the first.

    >>> worst([True, False, True], ["de", "de", "sw"])
    ('de', 0.5)
    """
    found = by_group(right, groups)
    group = min(found, key=lambda name: found[name])
    return group, found[group]


def cross_lingual_gap(
    right: Sequence[bool], support_languages: Sequence[str], query_languages: Sequence[str]
) -> float:
    """Return the accuracy within a language less that across languages.

    Both are means over query languages that occur in both ways, so that the gap compares the same
    languages.

    Raises:
        ValueError: unequal lengths, or no language that is judged both within and across.

    >>> cross_lingual_gap([True, True, True, False], ["sw", "sw", "en", "en"], ["sw"] * 4)
    0.5
    """
    if not len(right) == len(support_languages) == len(query_languages):
        raise ValueError("give support and query language of every query")
    pairs = [(q, s == q) for s, q in zip(support_languages, query_languages, strict=True)]
    found = by_group(right, pairs)
    both = [q for q in dict.fromkeys(query_languages) if {(q, True), (q, False)} <= found.keys()]
    if not both:
        raise ValueError("no language is judged both within and across languages")
    return sum(found[q, True] - found[q, False] for q in both) / len(both)
