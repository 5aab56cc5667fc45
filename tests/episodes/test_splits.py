"""Splits keep apart what they promise; what leaks is found and can be dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.episodes import EpisodeSampler
from icl.episodes.splits import check_disjoint, drop_leaks, find_leaks
from icl.errors import IclError
from icl.tasks.loaded import Split, TaskFamily
from tests.episodes.toy_families import Row, make_family, regular_family

TASKS, LANGUAGES = ("task0", "task1"), ("en", "fr", "sw")


def two_splits(disjoint: str, train: Split, test: Split) -> TaskFamily:
    family = regular_family()
    return replace(
        family, splits={"train": train, "test": test}, disjoint=(("train", "test", disjoint),)
    )


def low(_task: str, _label: str, item: str) -> bool:
    return int(item.split("-")[2]) < 6


def high(*item: str) -> bool:
    return not low(*item)


def known(_task: str, label: str, _item: str) -> bool:
    return label < "label3"


def new(*item: str) -> bool:
    return not known(*item)


KEPT = {
    "task": (Split("train", TASKS[:1], LANGUAGES), Split("test", TASKS[1:], LANGUAGES)),
    "language": (Split("train", TASKS, LANGUAGES[:1]), Split("test", TASKS, LANGUAGES[1:])),
    "class": (Split("train", TASKS, LANGUAGES, known), Split("test", TASKS, LANGUAGES, new)),
    "id": (Split("train", TASKS, LANGUAGES, low), Split("test", TASKS, LANGUAGES, high)),
}
BROKEN = {
    "task": (Split("train", TASKS[:1], LANGUAGES), Split("test", TASKS, LANGUAGES), "task0"),
    "language": (Split("train", TASKS, LANGUAGES[:2]), Split("test", TASKS, LANGUAGES[1:]), "fr"),
    "class": (
        Split("train", TASKS, LANGUAGES[:1], lambda *i: low(*i) and known(*i)),
        Split("test", TASKS, LANGUAGES[1:], high),
        "task0, label0",
    ),
    "id": (
        Split("train", TASKS, LANGUAGES[:1], known),
        Split("test", TASKS, LANGUAGES[1:]),
        "task0, 0-0-0",
    ),
}


@pytest.mark.parametrize("kind", sorted(KEPT))
def test_a_promise_that_is_kept_passes(kind: str) -> None:
    family = two_splits(kind, *KEPT[kind])
    check_disjoint(family)
    EpisodeSampler(family, "test", ways=2, shots=(1,), queries=2)


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_broken_promise_is_told(kind: str) -> None:
    train, test, first = BROKEN[kind]
    with pytest.raises(IclError, match=f"'train' and 'test'.*disjoint by {kind}.*first '{first}'"):
        check_disjoint(two_splits(kind, train, test))


@pytest.mark.parametrize("kind", ["task", "language", "id"])
def test_the_sampler_refuses_to_draw_from_a_split_that_breaks_its_promise(kind: str) -> None:
    family = two_splits(kind, *BROKEN[kind][:2])
    with pytest.raises(IclError, match=f"disjoint by {kind}"):
        EpisodeSampler(family, "test", ways=2, shots=(1,), queries=2)


def test_a_promise_binds_its_pair_of_splits_and_no_other() -> None:
    low_split, high_split = KEPT["id"]
    splits = {"train": low_split, "test": high_split, "again": replace(low_split, name="again")}
    family = replace(regular_family(), splits=splits, disjoint=(("train", "test", "id"),))
    check_disjoint(family)
    EpisodeSampler(family, "train", ways=2, shots=(1,), queries=2)
    bound = replace(family, disjoint=(*family.disjoint, ("again", "train", "id")))
    with pytest.raises(IclError, match=r"'again' and 'train'.*disjoint by id"):
        check_disjoint(bound)
    with pytest.raises(IclError, match="'train' and 'again', which are to be disjoint by id"):
        EpisodeSampler(bound, "train", ways=2, shots=(1,), queries=2)
    EpisodeSampler(bound, "test", ways=2, shots=(1,), queries=2)


def test_an_unknown_promise_is_told() -> None:
    with pytest.raises(IclError, match="disjoint by 'sentence'"):
        check_disjoint(two_splits("sentence", *KEPT["id"]))


def leaky_family(rows: list[tuple[str, str]]) -> TaskFamily:
    """Even ids train, odd ids test; (parallel id, text) pairs give the rest."""
    table: list[Row] = [
        (str(i), f"{'ab'[i % 2]}{item}", text, "xy"[i % 3 == 0])
        for i, (item, text) in enumerate(rows)
    ]
    return make_family(
        {("t", "en"): table},
        "xy",
        {
            "train": Split("train", ("t",), ("en",), lambda _t, _l, item: item[0] == "a"),
            "test": Split("test", ("t",), ("en",), lambda _t, _l, item: item[0] == "b"),
        },
    )


def test_exact_and_near_leaks_are_found_with_a_witness() -> None:
    family = leaky_family(
        [
            ("0", "what is the balance of my account"),
            ("1", "What is the balance  of my account"),
            ("2", "wake me up at seven in the morning please"),
            ("3", "wake me up at seven in the morning, please"),
            ("4", "nothing like it"),
        ]
    )
    leaks = [
        (k.by, k.split, k.example.id, k.other_split, k.other.id) for k in find_leaks(family, 0.8)
    ]
    assert leaks == [("text", "train", "0", "test", "1"), ("near", "train", "2", "test", "3")]
    assert [leak.by for leak in find_leaks(family)] == ["text"]


def test_an_item_in_another_language_is_a_parallel_leak() -> None:
    family = two_splits("language", *KEPT["language"])
    leaks = find_leaks(family)
    assert {leak.by for leak in leaks} == {"parallel"}
    assert len(leaks) == 2 * 6 * 12
    assert all(k.example.language == "en" != k.other.language for k in leaks)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 15).map(str), st.text("abc ", min_size=1, max_size=9)), max_size=40
    )
)
def test_after_dropping_nothing_leaks_and_the_test_split_is_whole(
    rows: list[tuple[str, str]],
) -> None:
    family = leaky_family(rows)
    clean = drop_leaks(family, find_leaks(family, near=0.5))
    assert find_leaks(clean, near=0.5) == []
    assert clean.examples("test", "t", "en") == family.examples("test", "t", "en")


def test_splits_that_are_not_promised_apart_are_no_leak() -> None:
    family = leaky_family([("0", "one"), ("1", "two"), ("2", "one"), ("3", "one")])
    part = replace(family.splits["test"], name="part of test")
    splits = {**family.splits, "part of test": part}
    wide = replace(family, splits=splits, disjoint=(("train", "test", "id"),))
    leaks = find_leaks(wide)
    assert {(k.split, k.other_split) for k in leaks} == {("train", "test")}
    assert drop_leaks(wide, leaks).examples("test", "t", "en") == family.examples("test", "t", "en")
    everything = {(k.split, k.other_split) for k in find_leaks(replace(wide, disjoint=()))}
    assert ("test", "part of test") in everything
