"""Choice of demonstrations against references written from the papers' definitions."""

from __future__ import annotations

import math
import sys
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.errors import IclError
from icl.prompting.choice import at_random, balanced, dpp, dpp_kernel, mmr
from icl.prompting.demonstrations import Demonstrator
from icl.prompting.similar import BM25, embeddings, nearest
from icl.prompting.units import units
from icl.tasks.task import Example
from tests import tiny
from tests.learners import problems


def pool(sizes: dict[str, int]) -> list[Example]:
    return [
        Example(f"{label}{i}", {"text": f"{label} {i}"}, label, "xx", f"{label}{i}")
        for label, size in sizes.items()
        for i in range(size)
    ]


def vectors(count: int, width: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, width))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 6), min_size=1), st.integers(1, 12))
def test_a_balanced_choice_is_as_even_as_the_set_allows(sizes: dict[str, int], count: int) -> None:
    examples = pool(sizes)
    chosen = balanced(examples, count, 0)
    assert len(chosen) == min(count, len(examples))
    counts = Counter(e.label for e in chosen)
    for label, size in sizes.items():  # a label with fewer than another had no more to give
        if counts[label] < max(counts.values()) - 1:
            assert counts[label] == size


@given(st.integers(0, 50), st.integers(1, 8), st.randoms())
def test_a_random_choice_depends_on_the_set_and_the_seed_alone(seed, count, random) -> None:  # type: ignore[no-untyped-def]
    examples = pool({"a": 4, "b": 4})
    chosen = at_random(examples, count, seed)
    mixed = list(examples)
    random.shuffle(mixed)
    assert {e.id for e in at_random(mixed, count, seed)} == {e.id for e in chosen}
    assert list(chosen) == [e for e in examples if e in chosen]  # in the order of the set


def test_a_random_choice_takes_every_example_equally_often() -> None:
    examples = pool({"a": 3, "b": 3})
    counts = Counter(e.id for seed in range(600) for e in at_random(examples, 2, seed))
    assert all(150 < counts[e.id] < 250 for e in examples)  # 200 each, sd 11.5


def test_knn_takes_the_highest_cosines() -> None:
    backbone, support = tiny.backbone(), tuple(problems.support(4))
    query = problems.query()[0].fields
    vectors = embeddings(backbone, [query, *(e.fields for e in support)])
    cosines = [
        float(vectors[0] @ v / np.linalg.norm(vectors[0]) / np.linalg.norm(v)) for v in vectors[1:]
    ]
    best = sorted(range(len(support)), key=lambda i: -cosines[i])[:3]
    demonstrator = Demonstrator(backbone, support, choice="knn", count=3, order="similarity")
    ((shown,),) = demonstrator.arrangements([query], None)
    assert [e.id for e in shown] == [support[i].id for i in best][::-1]  # the nearest last


def test_bm25_equals_the_formula() -> None:
    texts = ["the cat sat", "the dog", "東京 の cat", "cats and dogs and cats", "الكلب والقط"]
    index = BM25([{"text": text} for text in texts])
    documents = [units(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    for query in ("cat the the", "東 cats", "unknown", "القط", "والقط"):
        expected = []
        for words in documents:
            total = 0.0
            for word in units(query):
                holders = sum(word in d for d in documents)
                if holders == 0:
                    continue
                idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
                f = words.count(word)
                total += idf * f / (f + 1.5 * (1 - 0.75 + 0.75 * len(words) / mean))
            expected.append(total)
        np.testing.assert_allclose(index.scores({"text": query}), expected, atol=1e-5)


def test_bm25_of_texts_without_a_word_is_nought() -> None:
    assert BM25([{"text": "…"}, {"text": ""}]).scores({"text": "cat"}).tolist() == [0, 0]


def test_without_bm25s_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(IclError, match=r"pip install 'icl\[bm25\]'"):
        BM25([{"text": "cat"}])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1), st.integers(1, 7))
def test_mmr_is_the_greedy_choice_of_its_definition(seed: int, weight: float, count: int) -> None:
    points = vectors(6, 3, seed)
    relevance, likeness = points @ vectors(1, 3, seed + 1)[0], points @ points.T
    chosen: list[int] = []
    while len(chosen) < min(count, 6):
        values = {
            i: weight * relevance[i]
            - (1 - weight) * max((likeness[i, j] for j in chosen), default=0.0)
            for i in range(6)
            if i not in chosen
        }
        chosen.append(max(values, key=lambda i: (values[i], -i)))
    assert mmr(relevance, likeness, count, weight) == chosen


def test_mmr_and_dpp_without_diversity_are_knn() -> None:
    points = vectors(8, 5, 0)
    relevance = points @ vectors(1, 5, 1)[0]
    assert mmr(relevance, points @ points.T, 4, 1.0) == nearest(relevance, 4)
    kernel = dpp_kernel(relevance, points @ points.T, 0.999)
    assert sorted(dpp(kernel, 4)) == sorted(nearest(relevance, 4))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_dpp_takes_what_raises_the_determinant_most(seed: int, count: int) -> None:
    points = vectors(6, 5, seed)
    kernel = dpp_kernel(points @ vectors(1, 5, seed + 1)[0], points @ points.T, 0.5)
    chosen: list[int] = []
    for _ in range(count):
        volumes = {
            i: np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])])
            for i in range(6)
            if i not in chosen
        }
        chosen.append(max(volumes, key=lambda i: volumes[i]))
    assert dpp(kernel, count) == chosen


def test_the_dpp_kernel_weighs_relevance_as_the_paper_does() -> None:
    points = vectors(5, 4, 3)
    relevance, weight = points @ vectors(1, 4, 4)[0], 0.7
    kernel = dpp_kernel(relevance, points @ points.T, weight)
    values = []
    for pair in permutations(range(5), 2):
        part = np.ix_(pair, pair)
        likeness = (1 + points @ points.T) / 2
        paper = weight / (1 - weight) * relevance[list(pair)].sum()
        paper += np.log(np.linalg.det(likeness[part]))
        values.append(np.log(np.linalg.det(kernel[part])) - paper)
    np.testing.assert_allclose(values, values[0], atol=1e-8)


def test_dpp_passes_over_a_text_that_stands_twice() -> None:
    points = vectors(3, 4, 0)[[0, 0, 1, 2]]
    chosen = dpp(dpp_kernel(np.zeros(4), points @ points.T, 0.5), 4)
    assert set(chosen[:3]) == {0, 2, 3}
    assert chosen[3] == 1
