"""Label-shuffled, label-flipped and label-abstracted episodes: what does a model use?

Each function takes an episode and gives a new one, with its own fingerprint; the variant's name
is joined to the setting, so that records and tables keep it apart. Gold labels stay what they
are: only what the learner is shown changes.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from icl.episodes.episode import Episode
from icl.episodes.stream import Stream
from icl.errors import IclError
from icl.tasks.task import Example, Labels


def shuffle_labels(episode: Episode) -> Episode:
    """Deal the support set's labels anew at random among its examples.

    The texts and the number of examples a class stay, what joins them goes (the random labels of
    Min et al. 2022, "Rethinking the Role of Demonstrations"). A learner that loses nothing by it
    has not read the labels. Supports are no longer nested over shots: a label is dealt out of
    those of the whole set.
    """
    _needs_labels(episode, "shuffled")
    dealt = {}
    for name, purpose in (("support", f"shuffled/{episode.shots}"), ("pool", "shuffled/pool")):
        examples: tuple[Example, ...] = getattr(episode, name)
        labels = _stream(episode, purpose).shuffled([e.label for e in examples])
        dealt[name] = tuple(replace(e, label=n) for e, n in zip(examples, labels, strict=True))
    return _variant(episode, "shuffled-labels", **dealt)


def flip_labels(episode: Episode) -> Episode:
    """Give each class of the support set the label of another class, consistently.

    The classes are turned in a cycle drawn by seed, so that no class keeps its label (the
    flipped labels of Wei et al. 2023, "Larger language models do in-context learning
    differently"). Queries keep their gold labels: a learner that follows the support set falls
    below chance, one that follows what it knew before does not.
    """
    _needs_labels(episode, "flipped")
    ring = _stream(episode, "flipped").shuffled(sorted(episode.labels.names))
    turned = dict(zip(ring, [*ring[1:], ring[0]], strict=True))
    support, pool = (
        tuple(replace(e, label=turned[e.label]) for e in examples)
        for examples in (episode.support, episode.pool)
    )
    return _variant(episode, "flipped-labels", support=support, pool=pool)


def abstract_labels(episode: Episode, words: Sequence[str] | None = None) -> Episode:
    """Replace the labels' words by ones that mean nothing, dealt at random.

    The label names stay, so examples and gold labels do; a learner that reads words can only go
    by the support set (the semantically unrelated labels of Wei et al. 2023).

    Args:
        episode: the episode.
        words: at least as many as labels, e.g. ``("foo", "bar")``; None: A, B, C and so on.
    """
    _needs_labels(episode, "abstracted")
    if any(name in example.fields for example in episode.query for name in episode.labels.names):
        raise IclError(
            f"Labels cannot be abstracted in the multiple-choice task {episode.task!r}, whose "
            "prompts show the options by them; take another variant."
        )
    words = string.ascii_uppercase if words is None else words
    if len(set(words)) < max(episode.ways, len(words)):
        raise IclError(
            f"Abstract labels need {episode.ways} different words, not {', '.join(words)}; "
            "give more words or lower ways."
        )
    # The words go by the order of the labels, which is random itself.
    labels = episode.labels
    abstract = Labels(labels.names, tuple(words[: episode.ways]), labels.template)
    return _variant(episode, "abstract-labels", labels=abstract)


VARIANTS: Mapping[str, Callable[[Episode], Episode]] = {
    "shuffled-labels": shuffle_labels,
    "flipped-labels": flip_labels,
    "abstract-labels": abstract_labels,
}


def is_abstract(setting: str) -> bool:
    """Tell whether the words of labels mean nothing in a setting.

    >>> is_abstract("within+abstract-labels"), is_abstract("within")
    (True, False)
    """
    return setting.endswith("+abstract-labels")


def without_variant(setting: str) -> str:
    """Return a setting's name without the variant of its labels.

    >>> without_variant("within+flipped-labels"), without_variant("mine+yours")
    ('within', 'mine+yours')
    """
    base, _, name = setting.rpartition("+")
    return base if name in VARIANTS and base else setting


def _needs_labels(episode: Episode, what: str) -> None:
    if not episode.kind.single or episode.ways < 2:
        raise IclError(
            f"Labels cannot be {what} in an episode of {episode.task!r} with {episode.ways} "
            "labels; take a classification task with two ways or more."
        )


def _stream(episode: Episode, purpose: str) -> Stream:
    return Stream(
        f"variant/{purpose}/{episode.seed}/{episode.split}/{episode.setting}/{episode.index}"
    )


def _variant(episode: Episode, name: str, **changes: object) -> Episode:
    return replace(episode, setting=f"{episode.setting}+{name}", **changes)  # type: ignore[arg-type]
