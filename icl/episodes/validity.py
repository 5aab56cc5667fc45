"""What must hold of any episode, wherever it comes from."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from icl.episodes.episode import Episode
from icl.episodes.near import near_pairs
from icl.errors import IclError
from icl.tasks.kinds.posing import asked
from icl.tasks.task import Example, normalise

_KEYS: dict[str, Callable[[Example], str]] = {
    "id": lambda e: e.id,
    "parallel id": lambda e: e.parallel_id,
    "normalised text": lambda e: normalise(e.text),
}


def check_episode(episode: Episode, name: str, near: float | None = None) -> None:
    """Check that an episode does not leak and that its labels are those of its examples.

    Args:
        episode: the episode.
        name: what to call it in the message.
        near: refuse support and query texts that are at least this similar as well.

    Raises:
        IclError: any two of support, query and pool share an id, a parallel id or a normalised
            text; an example stands twice; an example's label is not among the labels, or its kind
            of task cannot ask for it; or there is
            no query.
    """
    if not episode.query:
        raise IclError(f"{name} has no query; draw it again.")
    sets = {"support": episode.support, "query": episode.query, "pool": episode.pool}
    for (what, key), (one, other) in itertools.product(
        _KEYS.items(), itertools.combinations(sets, 2)
    ):
        held = {key(e) for e in sets[one]}
        for example in sets[other]:
            if key(example) in held:
                raise IclError(
                    f"{name} has the {what} {key(example)!r} in its {one} and its {other} set, "
                    "which leaks the answer; draw it again."
                )
    if near is not None:
        _check_near(episode, name, near)
    every = (*episode.support, *episode.query, *episode.pool)
    seen: set[tuple[str, str]] = set()
    for example in every:
        if (example.language, example.id) in seen:
            raise IclError(f"{name} holds the example {example.id!r} twice; draw it again.")
        seen.add((example.language, example.id))
    if not episode.kind.single:
        space = episode.kind.space(episode.labels)
        for example in every:
            asked(episode.kind, example, episode.labels, space)
        return
    known = set(episode.labels.names)
    for example in every:
        if example.label not in known:
            raise IclError(
                f"{name} has an example {example.id!r} of the label {example.label!r}, which is "
                "not one of its labels; draw it again."
            )


def check_nested(less: Episode, more: Episode, name: str) -> None:
    """Check that two episodes of one index and of ascending shots can be paired.

    Raises:
        IclError: their labels or queries differ, or the smaller support is not part of the other.
    """
    if (less.query, less.labels, less.pool) != (more.query, more.labels, more.pool):
        raise IclError(
            f"{name} has other labels, queries or pool than the one with {less.shots} shots before "
            "it; draw both with one sampler."
        )
    if not {e.id for e in less.support} <= {e.id for e in more.support}:
        raise IclError(
            f"{name} does not hold the support of the one with {less.shots} shots before it; "
            "draw both with one sampler."
        )


def _check_near(episode: Episode, name: str, near: float) -> None:
    shown = (*episode.support, *episode.pool)
    texts = [e.text for e in (*shown, *episode.query)]
    edge = len(shown)
    for first, second in near_pairs(texts, near).tolist():
        if first < edge <= second:
            raise IclError(
                f"{name} has the near-duplicates {texts[first]!r} and {texts[second]!r} in its "
                "support or pool and its query set; draw it again with `near`."
            )
