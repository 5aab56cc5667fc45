"""The stream is uniform, unbiased and the same for ever."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from icl.episodes.stream import Stream

GOLDEN = [18171520615227126259, 7763542587926313343, 9831174413078069478]
GOLDEN_SECOND_BLOCK = 1706297059534341374

keys = st.integers(min_value=0, max_value=2**63)


def test_words_are_those_of_shake_256_for_ever() -> None:
    stream = Stream("golden", 7, None)
    assert [stream.word() for _ in range(3)] == GOLDEN
    for _ in range(61):
        stream.word()
    assert stream.word() == GOLDEN_SECOND_BLOCK


@given(keys, st.integers(1, 2**64))
def test_below_stays_below(key: int, bound: int) -> None:
    stream = Stream(key)
    assert all(0 <= stream.below(bound) < bound for _ in range(5))


def test_below_rejects_what_would_bias_it() -> None:
    # With a bound of 3 * 2**62 a quarter of the words is rejected; without rejection values that
    # are multiples of 3 would come twice as often as others.
    bound = 3 * 2**62
    stream = Stream("bias")
    counts = Counter(stream.below(bound) % 3 for _ in range(6000))
    assert all(abs(counts[r] - 2000) < 200 for r in range(3))


@given(keys, st.lists(st.integers(), max_size=20, unique=True), st.data())
def test_sample_draws_distinct_items(key: int, items: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(items)))
    drawn = Stream(key).sample(items, count)
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= set(items)


def test_all_orders_are_equally_likely() -> None:
    counts = Counter(tuple(Stream("orders", i).shuffled("abc")) for i in range(6000))
    assert set(counts) == set(itertools.permutations("abc"))
    assert all(abs(n - 1000) < 150 for n in counts.values())


def test_uniform_fills_the_unit_interval() -> None:
    stream = Stream("uniform")
    draws = [stream.uniform() for _ in range(4000)]
    assert all(0 <= x < 1 for x in draws)
    assert abs(sum(draws) / 4000 - 0.5) < 0.02
