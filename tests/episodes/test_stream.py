"""The stream is uniform, unbiased and the same for ever."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from icl.episodes.stream import Stream, stream_words

GOLDEN = [8349867200732026504, 8944410742524822265, 6041514709895941243]
GOLDEN_SECOND_BLOCK = 2709057914984667382

keys = st.integers(min_value=0, max_value=2**63)


def test_words_are_those_of_shake_256_for_ever() -> None:
    stream = Stream("golden/7")
    assert [stream.word() for _ in range(3)] == GOLDEN
    for _ in range(61):
        stream.word()
    assert stream.word() == GOLDEN_SECOND_BLOCK


@given(keys, st.integers(1, 2**64))
def test_below_stays_below(key: int, bound: int) -> None:
    stream = Stream(str(key))
    assert all(0 <= stream.below(bound) < bound for _ in range(5))


@given(keys, st.lists(st.integers(), max_size=20, unique=True), st.data())
def test_sample_draws_distinct_items(key: int, items: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(items)))
    drawn = Stream(str(key)).sample(items, count)
    assert len(drawn) == len(set(drawn)) == count
    assert set(drawn) <= set(items)


def test_all_orders_are_equally_likely() -> None:
    counts = Counter(tuple(Stream(f"orders/{i}").shuffled("abc")) for i in range(6000))
    assert set(counts) == set(itertools.permutations("abc"))
    assert all(abs(n - 1000) < 150 for n in counts.values())


def test_sort_keys_put_picks_in_uniform_order_whatever_is_picked() -> None:
    stream = Stream("keys")
    first = Counter()
    for _ in range(6000):
        picks = [(*stream.pick(3), turn) for turn in range(2)]
        (a, key_a, _), (b, key_b, _) = picks
        first[a, b, key_a < key_b] += 1
    assert len(first) == 18
    assert all(abs(n - 6000 / 18) < 90 for n in first.values())


@given(st.lists(st.text(max_size=5), max_size=3), st.integers(0, 150))
def test_words_in_bulk_are_those_one_by_one(names: list[str], count: int) -> None:
    rows = stream_words(names, count)
    assert rows.shape == (len(names), count)
    for name, row in zip(names, rows.tolist(), strict=True):
        stream = Stream(name)
        assert row == [stream.word() for _ in range(count)]


def test_uniform_fills_the_unit_interval() -> None:
    stream = Stream("uniform")
    draws = [stream.uniform() for _ in range(4000)]
    assert all(0 <= x < 1 for x in draws)
    assert abs(sum(draws) / 4000 - 0.5) < 0.02
