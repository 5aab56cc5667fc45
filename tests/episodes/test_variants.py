"""Variants change what is shown of the labels, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.episodes import Episode, EpisodeSampler
from icl.episodes.variants import VARIANTS, abstract_labels, flip_labels, shuffle_labels
from icl.errors import IclError
from tests.episodes.toy_families import regular_family

SAMPLER = EpisodeSampler(regular_family(), "test", ways=4, shots=(0, 1, 4), queries=8)
episodes = st.builds(SAMPLER.episode, st.integers(0, 200), st.sampled_from([0, 1, 4]))


@settings(max_examples=50, deadline=None)
@given(episodes, st.sampled_from(sorted(VARIANTS)))
def test_texts_and_gold_stay_and_the_variant_is_named(episode: Episode, name: str) -> None:
    variant = VARIANTS[name](episode)
    assert variant == VARIANTS[name](episode), "the same every time"
    assert variant.query == episode.query
    assert variant.labels.names == episode.labels.names
    assert [e.fields for e in variant.support] == [e.fields for e in episode.support]
    assert variant.setting == f"within+{name}"
    assert variant.fingerprint != episode.fingerprint


@settings(max_examples=50, deadline=None)
@given(episodes)
def test_shuffled_labels_keep_their_counts(episode: Episode) -> None:
    shuffled = shuffle_labels(episode)
    assert Counter(e.label for e in shuffled.support) == Counter(e.label for e in episode.support)


def test_shuffled_labels_are_right_as_often_as_chance() -> None:
    right = total = 0
    for index in range(150):
        episode = SAMPLER.episode(index, 4)
        pairs = zip(episode.support, shuffle_labels(episode).support, strict=True)
        right += sum(a.label == b.label for a, b in pairs)
        total += 16
    assert abs(right / total - 0.25) < 0.03


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200))
def test_flipped_labels_are_always_wrong_consistent_and_equal_over_shots(index: int) -> None:
    maps = []
    for shots in (1, 4):
        episode = SAMPLER.episode(index, shots)
        pairs = zip(episode.support, flip_labels(episode).support, strict=True)
        turned = {(a.label, b.label) for a, b in pairs}
        assert len(turned) == 4, "one label for each class"
        assert len({b for _, b in turned}) == 4
        assert all(a != b for a, b in turned)
        maps.append(turned)
    assert maps[0] == maps[1]


def test_abstract_labels_say_nothing_and_fall_on_classes_by_chance() -> None:
    words = {SAMPLER.episode(0, 1).labels.names[0]: Counter[str]()}
    (name,) = words
    for index in range(300):
        labels = abstract_labels(SAMPLER.episode(index, 1)).labels
        assert labels.words == ("A", "B", "C", "D")
        if name in labels.names:
            words[name][labels.words[labels.index(name)]] += 1
    assert len(words[name]) == 4
    assert max(words[name].values()) < 2 * min(words[name].values())
    assert abstract_labels(SAMPLER.episode(0, 1), ["foo", "bar", "x", "y", "z"]).labels.words == (
        "foo", "bar", "x", "y",
    )  # fmt: skip


@pytest.mark.parametrize("words", [["foo", "bar"], ["a", "a", "b", "c", "d"]])
def test_too_few_abstract_words_are_told(words: list[str]) -> None:
    with pytest.raises(IclError, match="4 different words"):
        abstract_labels(SAMPLER.episode(0, 1), words)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_episodes_without_labels_have_no_variants(name: str) -> None:
    episode = SAMPLER.episode(0, 0)
    labels = replace(episode.labels, names=(), words=())
    with pytest.raises(IclError, match="two ways or more"):
        VARIANTS[name](replace(episode, labels=labels))
