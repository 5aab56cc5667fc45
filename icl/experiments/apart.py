"""Validation episodes of `tuning` hold nothing that is asked at test."""

from __future__ import annotations

from collections.abc import Sequence

from icl.episodes import Episode
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig
from icl.experiments.episodes import iterate_episodes
from icl.tasks import TaskFamily
from icl.tasks.task import normalise


def check_apart(
    config: ExperimentConfig, family: TaskFamily, validation: Sequence[Episode]
) -> None:
    """Check that nothing that is asked at test stands in the validation episodes.

    No query of the test shares a text with them, nor an item (a parallel id), but where the family
    says that the two splits differ in their languages only.

    Raises:
        IclError: one does; or saved episodes are of the very split that is searched on.
    """
    assert config.tuning is not None
    split = config.tuning.split
    apart = {
        other: {kind for *pair, kind in family.disjoint if set(pair) == {split, other}}
        for other in family.splits
    }
    texts, items = set(), set()
    for episode in validation:
        for example in (*episode.support, *episode.query, *episode.pool):
            texts.add((episode.task, normalise(example.text)))
            items.add((episode.task, example.parallel_id))
    for episode in iterate_episodes(config, family):
        if episode.split == split:
            raise IclError(
                f"`tuning` searches on the split {split!r}, which the saved episodes are of; name"
                " another under `tuning.split`."
            )
        by_language = "language" in apart.get(episode.split, ())
        for example in episode.query:
            text = (episode.task, normalise(example.text)) in texts
            item = (episode.task, example.parallel_id) in items and not by_language
            if text or item:
                mend = (
                    "set `episodes.drop_leaks: true`, which drops it"
                    if apart.get(episode.split) and config.episodes.file is None
                    else f"name a split under `tuning.split` that is apart from {episode.split!r}"
                )
                raise IclError(
                    f"The validation episodes of `tuning` hold {'a text' if text else 'an item'}"
                    f" that is asked at test: {example.id!r} of the task {episode.task!r}"
                    f" ({episode.query_language}) stands in the splits {split!r} and"
                    f" {episode.split!r}; {mend}."
                )
