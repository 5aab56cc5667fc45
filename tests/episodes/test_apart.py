"""Near-duplicates and domains are kept apart."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from icl.episodes import EpisodeSampler, Setting
from icl.episodes.near import similarity
from icl.errors import IclError
from icl.tasks.loaded import TaskFamily
from tests.episodes.toy_families import make_family, regular_family

STEMS = [
    "please tell me the balance of account {}",
    "could you put twenty pounds on card number {}",
    "is the branch in street {} open on sundays",
]
NAMES = [hashlib.sha256(bytes([i])).hexdigest()[:30] for i in range(30)]


def chatty_family() -> TaskFamily:
    """Ninety sentences in near-identical trios."""
    rows = [
        (
            f"{i}-{twin}",
            f"{i}-{twin}",
            STEMS[i % 3].format(NAMES[i] + twin),
            "xyz"[i % 3],
        )
        for i in range(30)
        for twin in "123"
    ]
    return make_family({("t", "en"): rows}, "xyz")


@pytest.mark.parametrize("near", [None, 0.8])
def test_near_duplicates_never_meet_when_asked(near: float | None) -> None:
    sampler = EpisodeSampler(chatty_family(), "test", ways=3, shots=(3,), queries=9, near=near)
    closest = max(
        similarity(s.text, q.text)
        for episode in sampler.episodes(30)
        for s in episode.support
        for q in episode.query
    )
    assert (closest < 0.8) == (near is not None), "without `near` they do meet in this data"


def test_near_duplicates_count_once() -> None:
    with pytest.raises(IclError, match="0 classes with the 8 \\+ 3 distinct"):
        EpisodeSampler(chatty_family(), "test", ways=3, shots=(8,), queries=9, near=0.8)


def domain_family(domains: int = 3) -> TaskFamily:
    family = regular_family(1, ["en", "fr"], labels=4, each=12)

    def load(task: str, language: str):  # type: ignore[no-untyped-def]
        loaded = family.load(task, language)
        return dataclasses.replace(
            loaded,
            examples=tuple(
                dataclasses.replace(e, domain=f"d{i // 4 % domains}" if domains else "")
                for i, e in enumerate(loaded.examples)
            ),
        )

    return TaskFamily("toy", load, family.splits)


@pytest.mark.parametrize("support_language", [None, "en"])
def test_support_and_query_domains_are_apart(support_language: str | None) -> None:
    setting = Setting("cross-domain", support_language, other_domain=True)
    sampler = EpisodeSampler(
        domain_family(), "test", ways=3, shots=(0, 2), queries=6, pool=3, setting=setting
    )
    asked = set()
    for index in range(30):
        episode, nothing = sampler.episode(index, 2), sampler.episode(index, 0)
        query = {e.domain for e in episode.query}
        assert len(query) == 1
        assert not query & {e.domain for e in (*episode.support, *episode.pool)}
        assert nothing.query == episode.query
        asked |= query
    assert asked == {"d0", "d1", "d2"}
    assert sampler.draws(range(30), 2) == [sampler.draw(i, 2) for i in range(30)]


def test_one_domain_cannot_be_apart_from_itself() -> None:
    with pytest.raises(IclError, match="queries on 'd0' in the split 'test' has 0 classes"):
        EpisodeSampler(
            domain_family(1), "test", ways=3, shots=(1,), queries=3,
            setting=Setting("x", other_domain=True),
        )  # fmt: skip


def test_examples_without_a_domain_are_told() -> None:
    with pytest.raises(IclError, match=r"'en-0-0-0' .* names no domain; say under `columns`"):
        EpisodeSampler(
            domain_family(0), "test", ways=3, shots=(1,), queries=3,
            setting=Setting("x", other_domain=True),
        )  # fmt: skip


def test_a_text_copied_into_another_domain_is_still_a_copy() -> None:
    family = domain_family(2)
    loaded = family.load("task0", "en")
    copies = tuple(
        dataclasses.replace(e, id=f"copy-{e.id}", parallel_id=f"copy-{e.id}", domain="d9")
        for e in loaded.examples
    )
    task = dataclasses.replace(loaded, examples=(*loaded.examples, *copies))
    sampler = EpisodeSampler(
        dataclasses.replace(family, load=lambda *_: task), "test", ways=3, shots=(2,), queries=6,
        setting=Setting("x", other_domain=True), languages=["en"],
    )  # fmt: skip
    for episode in sampler.episodes(20):
        assert not {e.text for e in episode.query} & {e.text for e in episode.support}
