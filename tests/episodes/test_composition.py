"""Varying ways, shots and balance keep what plain episodes keep."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.episodes import Composition, Episode, EpisodeSampler
from icl.errors import IclError
from icl.tasks.loaded import TaskFamily
from tests.episodes.toy_families import make_family, regular_family

META_DATASET = Composition(max_ways=50, vary_shots=True, support="natural", imbalance=2.0)
compositions = st.builds(
    Composition,
    max_ways=st.one_of(st.none(), st.integers(2, 9)),
    vary_shots=st.booleans(),
    support=st.sampled_from(["balanced", "natural"]),
    imbalance=st.sampled_from([1.0, 2.0, 10.0]),
    queries=st.sampled_from(["balanced", "natural"]),
)


def skewed_family() -> TaskFamily:
    """Six classes of 10, 14, 20, 30, 45 and 68 examples."""
    sizes = {f"label{i}": int(10 * 1.47**i) for i in range(6)}
    rows = [
        (f"{label}-{i}", f"{label}-{i}", f"text {label} {i}", label)
        for label, size in sizes.items()
        for i in range(size)
    ]
    return make_family({("skewed", "en"): rows}, list(sizes))


def draw(composition: Composition, seed: int = 0, **changes: object) -> EpisodeSampler:
    arguments: dict[str, object] = {"ways": 2, "shots": (0, 1, 3, 5), "queries": 10}
    return EpisodeSampler(
        skewed_family(),
        "test",
        seed=seed,
        composition=composition,
        **(arguments | changes),  # type: ignore[arg-type]
    )


@settings(max_examples=60, deadline=None)
@given(compositions, st.integers(0, 9))
def test_whatever_varies_the_invariants_hold(composition: Composition, seed: int) -> None:
    sampler = draw(composition, seed)
    for index in range(8):
        by_shots = [sampler.episode(index, k) for k in (0, 1, 3, 5)]
        for episode in by_shots:
            shown, asked = ({e.id for e in s} for s in (episode.support, episode.query))
            assert not shown & asked
            assert (len(shown), len(asked)) == (len(episode.support), 10)
            assert {e.label for e in (*episode.support, *episode.query)} <= set(
                episode.labels.names
            )
            assert 2 <= episode.ways <= (composition.max_ways or 2)
            if episode.shots:
                assert {e.label for e in episode.support} == set(episode.labels.names)
        for less, more in itertools.pairwise(by_shots):
            assert (less.query, less.labels) == (more.query, more.labels)
            assert [e for e in more.support if e in less.support] == list(less.support)
        if not composition.vary_shots:
            assert [len(e.support) for e in by_shots] == [
                k * e.ways for k, e in zip((0, 1, 3, 5), by_shots, strict=True)
            ]
        if composition.queries == "balanced":
            counts = Counter(e.label for e in by_shots[0].query)
            assert max(counts.values()) - min(counts.values()) <= 1


def test_the_default_is_plain() -> None:
    assert Composition().plain
    assert not META_DATASET.plain


def test_ways_are_uniform_over_their_range() -> None:
    sampler = draw(Composition(max_ways=50), shots=(0,))
    counts = Counter(sampler.episode(i, 0).ways for i in range(1000))
    assert set(counts) == {2, 3, 4, 5, 6}
    assert all(abs(n - 200) < 60 for n in counts.values())


def test_meta_dataset_supports_follow_class_sizes_and_vary_in_size() -> None:
    sampler = draw(META_DATASET, ways=6, shots=(20,), queries=18)
    episodes = [sampler.episode(i, 20) for i in range(300)]
    totals = Counter(e.label for episode in episodes for e in episode.support)
    ordered = [totals[f"label{i}"] for i in range(6)]
    assert ordered == sorted(ordered)
    assert ordered[-1] > 3 * ordered[0]
    sizes = [len(e.support) for e in episodes]
    assert min(sizes) < 25
    assert max(sizes) > 75
    # Contributions are ceil(b * min(20, left)) with left = size - 3: 7, 11, 17, 20, 20, 20.
    assert abs(sum(sizes) / 300 - (95 / 2 + 3)) < 6


def test_imbalance_stays_within_its_factor() -> None:
    sampler = draw(Composition(imbalance=3.0), ways=3, shots=(5,), queries=3)
    ratios = []
    for index in range(200):
        counts = Counter(e.label for e in sampler.episode(index, 5).support).values()
        ratios.append(max(counts) / min(counts))
        assert sum(counts) == 15
    assert max(ratios) <= 13  # 9 before rounding to whole examples, and a class has at least one
    assert max(ratios) > 3
    assert sum(r > 1.5 for r in ratios) > 100


def test_natural_queries_follow_class_sizes() -> None:
    sampler = draw(Composition(queries="natural"), ways=6, shots=(1,), queries=24)
    totals = Counter(e.label for i in range(300) for e in sampler.episode(i, 1).query)
    shares = [totals[f"label{i}"] / 7200 for i in range(6)]
    expected = [size / 185 for size in (10, 14, 21, 31, 46, 68)]
    assert all(abs(s - e) < 0.03 for s, e in zip(shares, expected, strict=True)), shares


def test_natural_queries_leave_enough_for_the_support() -> None:
    family = regular_family(1, ["en"], labels=3, each=8)
    sampler = EpisodeSampler(
        family, "test", ways=3, shots=(5,), queries=9, composition=Composition(queries="natural")
    )
    for index in range(100):
        episode: Episode = sampler.episode(index, 5)
        assert Counter(e.label for e in episode.support) == dict.fromkeys(episode.labels.names, 5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Composition(imbalance=0.5), "imbalance is 0.5"),
        (lambda: Composition(imbalance=float("nan")), "imbalance is nan"),
        (lambda: Composition(queries="odd"), "'balanced' or 'natural'"),  # type: ignore[arg-type]
        (lambda: draw(Composition(max_ways=1)), "max_ways is 1"),
    ],
)
def test_bad_compositions_are_refused(make: object, words: str) -> None:
    with pytest.raises(IclError, match=words):
        make()  # type: ignore[operator]
