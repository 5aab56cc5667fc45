"""`draw`: episodes from a family in one call."""

from __future__ import annotations

from collections.abc import Sequence

from icl.episodes.episode import Episode
from icl.episodes.sampler import EpisodeSampler
from icl.episodes.setting import WITHIN, Setting
from icl.tasks.loaded import TaskFamily


def draw(
    family: TaskFamily,
    *,
    ways: int = 5,
    shots: int | Sequence[int] = (0, 1, 5),
    queries: int = 15,
    count: int = 10,
    split: str = "test",
    support_language: str | None = None,
    tasks: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Episode]:
    """Draw few-shot episodes, the same for the same arguments on any machine.

    Args:
        family: where the tasks come from.
        ways: labels in an episode.
        shots: labelled examples of each label to learn from; one number or several.
        queries: examples to be judged on, over all labels.
        count: indices; each is drawn at every number of shots, with the same queries.
        split: the meta-split, usually ``train``, ``validation`` or ``test``.
        support_language: support always in this language and queries in the others; None: both in
            the same.
        tasks, languages: only some of the split's.
        seed: of the experiment.

    Returns:
        `count` times as many episodes as there are numbers of shots.

    Raises:
        IclError: the family cannot give what is asked for; see `EpisodeSampler`.
    """
    setting = WITHIN if support_language is None else Setting("cross-lingual", support_language)
    sampler = EpisodeSampler(
        family,
        split,
        ways=ways,
        shots=[shots] if isinstance(shots, int) else shots,
        queries=queries,
        setting=setting,
        tasks=tasks,
        languages=languages,
        seed=seed,
    )
    return list(sampler.episodes(count))
