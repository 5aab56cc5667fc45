"""The pool of further labelled examples, and what multiple choice and generation change."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.episodes import Composition, Episode, EpisodeSampler, Setting
from icl.episodes.as_dataset import from_dataset, to_dataset
from icl.episodes.validity import check_episode, check_nested
from icl.episodes.variants import abstract_labels, flip_labels, shuffle_labels
from icl.errors import IclError
from icl.tasks.kinds.generation import Generation
from icl.tasks.kinds.multiple_choice import MultipleChoice
from icl.tasks.loaded import Task, TaskFamily
from icl.tasks.task import Example, normalise
from tests.episodes.toy_families import make_family, regular_family

SHOTS = (0, 1, 3)
COMPOSITIONS = [
    Composition(),
    Composition(max_ways=5, vary_shots=True, support="natural", imbalance=2.0),
    Composition(queries="natural"),
]


def keys(examples: tuple[Example, ...]) -> set[str]:
    return {k for e in examples for k in (e.id, e.parallel_id, normalise(e.text))}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 12), st.sampled_from(COMPOSITIONS), st.sampled_from([None, "en"]),
    st.integers(0, 30), st.integers(0, 3),
)  # fmt: skip
def test_a_pool_is_apart_the_same_for_all_shots_and_changes_nothing_else(
    size: int, composition: Composition, support: str | None, index: int, seed: int
) -> None:
    arguments = {
        "ways": 3, "shots": SHOTS, "queries": 6, "composition": composition, "seed": seed,
        "setting": Setting("s", support),
    }  # fmt: skip
    family = regular_family(each=16)
    sampler = EpisodeSampler(family, "test", pool=size, **arguments)
    with_pool = [sampler.episode(index, shots) for shots in SHOTS]
    assert with_pool == list(sampler.episodes(1, start=index))
    for less, more in itertools.pairwise(with_pool):
        check_nested(less, more, "it")
    for episode in with_pool:
        check_episode(episode, "it")
        assert len(episode.pool) == size
        assert not keys(episode.pool) & (keys(episode.support) | keys(episode.query))
        counts = Counter(e.label for e in episode.pool)
        assert not counts or max(counts.values()) <= -(-size // episode.ways)
        assert {e.language for e in episode.pool} <= {episode.support_language}
    if composition == Composition():
        without = EpisodeSampler(family, "test", **arguments)
        for episode in with_pool:
            assert replace(episode, pool=()) == without.episode(index, episode.shots)


def test_an_episode_without_a_pool_or_domain_is_written_as_before_there_were_any() -> None:
    episode = EpisodeSampler(regular_family(), "test", ways=2, shots=(1,), queries=2).episode(0, 1)
    assert '"pool"' not in episode.to_json()
    assert '"domain"' not in episode.to_json()
    one = replace(episode.support[0], id="p", parallel_id="p", domain="d", fields={"text": "new"})
    wider = replace(episode, pool=(one,))
    assert Episode.from_json(wider.to_json()) == wider
    assert wider.fingerprint != episode.fingerprint
    assert list(from_dataset(to_dataset([episode, wider]))) == [episode, wider]


def test_a_pool_that_shares_with_the_queries_is_told() -> None:
    episode = EpisodeSampler(regular_family(), "test", ways=2, shots=(1,), queries=2).episode(0, 1)
    leaky = replace(episode, pool=(replace(episode.query[0], id="other", parallel_id="other"),))
    with pytest.raises(IclError, match=r"normalised text .* in its query and its pool set"):
        check_episode(leaky, "it")


def test_a_pool_that_cannot_be_had_is_told() -> None:
    with pytest.raises(IclError, match=r"a pool of 44, .*label 'label0' has 12\); lower"):
        EpisodeSampler(regular_family(), "test", ways=4, shots=(1,), queries=4, pool=44)


def test_variants_change_the_pool_as_they_change_the_support() -> None:
    sampler = EpisodeSampler(regular_family(), "test", ways=4, shots=(2,), queries=4, pool=12)
    episode = sampler.episode(0, 2)
    shuffled, flipped = shuffle_labels(episode), flip_labels(episode)
    assert [e.label for e in shuffled.pool] != [e.label for e in episode.pool]
    assert Counter(e.label for e in shuffled.pool) == Counter(e.label for e in episode.pool)
    turned = {
        b.label: a.label
        for b, a in zip(
            (*episode.support, *episode.pool), (*flipped.support, *flipped.pool), strict=True
        )
    }
    assert len(turned) == 4
    assert all(a != b for b, a in turned.items())


def choice_family(rows: int = 40) -> TaskFamily:
    plain = make_family(
        {("quiz", "en"): [(str(i), str(i), f"question {i}", "ABCD"[i % 4]) for i in range(rows)]},
        "ABCD",
    )
    task = plain.load("quiz", "en")
    examples = tuple(
        replace(e, fields={**e.fields, **{x: f"{x}-option of {e.id}" for x in "ABCD"}})
        for e in task.examples
    )
    chosen = replace(task, kind=MultipleChoice(), examples=examples)
    return replace(plain, load=lambda *_: chosen)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(0, 60), st.sampled_from([None, 2, 4, 9]))
def test_multiple_choice_has_all_labels_whatever_the_ways(
    ways: int, index: int, most: int | None
) -> None:
    composition = Composition(max_ways=None if most is None else max(most, ways))
    sampler = EpisodeSampler(
        choice_family(), "test", ways=ways, shots=(0, 2), queries=8, composition=composition
    )
    episode = sampler.episode(index, 2)
    assert sorted(episode.labels.names) == list("ABCD")
    assert Counter(e.label for e in episode.support) == dict.fromkeys("ABCD", 2)
    assert sampler.draws([index], 2) == [sampler.draw(index, 2)]
    with pytest.raises(IclError, match="multiple-choice task 'quiz'"):
        abstract_labels(episode)


def generation_family() -> TaskFamily:
    plain = make_family(
        {("sums", "en"): [(str(i), str(i), f"{i} + 1 =", str(i + 1)) for i in range(30)]}, ()
    )
    task: Task = replace(
        plain.load("sums", "en"), kind=Generation(metrics=("exact_match",)), labels=()
    )
    return replace(plain, load=lambda *_: task)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 60), st.integers(0, 5))
def test_generation_counts_examples_and_ways_mean_nothing(ways: int, index: int, pool: int) -> None:
    sampler = EpisodeSampler(
        generation_family(), "test", ways=ways, shots=(0, 1, 4), queries=3, pool=pool
    )
    for shots in (0, 1, 4):
        episode = sampler.episode(index, shots)
        assert (len(episode.support), len(episode.query), len(episode.pool)) == (shots, 3, pool)
        assert (episode.labels.names, episode.ways) == ((), 0)
        check_episode(episode, "it")
        assert Episode.from_json(episode.to_json()) == episode
        assert all(e.label == str(int(e.id) + 1) for e in (*episode.query, *episode.pool))
    assert list(from_dataset(to_dataset([episode]))) == [episode]
