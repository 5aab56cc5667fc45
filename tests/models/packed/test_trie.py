from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl.models.packed.trie import join, pack

sequences = st.lists(
    st.lists(st.integers(0, 3), max_size=8).map(lambda x: np.asarray(x, dtype=np.int64)),
    min_size=1,
    max_size=8,
)


@given(sequences)
def test_every_path_spells_its_sequence_at_the_right_positions(rows: list[np.ndarray]) -> None:
    trie = pack(rows)
    for row, path in zip(rows, trie.paths, strict=True):
        assert trie.tokens[path].tolist() == row.tolist()
        assert trie.positions[path].tolist() == list(range(len(row)))


@given(sequences)
def test_each_distinct_prefix_stands_exactly_once(rows: list[np.ndarray]) -> None:
    prefixes = {tuple(row[: i + 1].tolist()) for row in rows for i in range(len(row))}
    assert len(pack(rows).tokens) == len(prefixes)


@given(sequences)
def test_segments_tile_the_rows_and_nest(rows: list[np.ndarray]) -> None:
    trie = pack(rows)
    covered = [r for s in trie.segments for r in range(s.start, s.start + s.length)]
    assert sorted(covered) == list(range(len(trie.tokens)))
    for s in trie.segments:
        inside = [t for t in trie.segments if s.start <= t.start < s.end]
        assert sum(t.length for t in inside) == s.end - s.start
        assert all(t.depth > s.depth for t in inside if t is not s)


@given(sequences, sequences)
def test_joined_tries_share_nothing_and_keep_their_paths(
    a: list[np.ndarray], b: list[np.ndarray]
) -> None:
    joined = join([pack(a), pack(b)])
    for row, path in zip([*a, *b], joined.paths, strict=True):
        assert joined.tokens[path].tolist() == row.tolist()
    first = {int(r) for path in joined.paths[: len(a)] for r in path}
    second = {int(r) for path in joined.paths[len(a) :] for r in path}
    assert not first & second


def test_packing_nothing_gives_no_rows() -> None:
    assert len(pack([np.empty(0, dtype=np.int64)]).tokens) == 0


def test_a_label_that_is_a_prefix_of_another_shares_its_rows() -> None:
    short, long = np.asarray([1, 2, 3]), np.asarray([1, 2, 3, 4])
    trie = pack([short, long])
    assert len(trie.tokens) == 4
    assert trie.paths[1][:3].tolist() == trie.paths[0].tolist()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_insertion_order_does_not_change_the_packed_size(order: list[int]) -> None:
    rows = [np.asarray(x) for x in ([1, 2, 3], [1, 2], [1, 4])]
    assert len(pack([rows[i] for i in order]).tokens) == 4
