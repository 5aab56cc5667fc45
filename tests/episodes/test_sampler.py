"""What every episode keeps to, whatever the data."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icl.episodes import Episode, EpisodeSampler, Setting
from icl.errors import IclError
from icl.tasks.kinds.generation import Generation
from icl.tasks.loaded import Split, TaskFamily
from icl.tasks.task import Example, normalise
from tests.episodes.toy_families import Row, make_family, regular_family

CROSS = Setting("cross-lingual", "en")


@pytest.fixture
def family() -> TaskFamily:
    return regular_family()


def sampler(family: TaskFamily, **changes: object) -> EpisodeSampler:
    arguments: dict[str, object] = {"ways": 4, "shots": (0, 1, 3), "queries": 10, "seed": 3}
    return EpisodeSampler(family, "test", **(arguments | changes))  # type: ignore[arg-type]


WITHIN = Setting("within")
# Copies to make in a clean table: (from row, to row, what is copied).
copies = st.lists(
    st.tuples(st.integers(0, 71), st.integers(0, 71), st.sampled_from(["id", "parallel", "text"])),
    max_size=30,
)


def messy_tables(mess: list[tuple[int, int, str]]) -> dict[tuple[str, str], list[Row]]:
    """Make two languages of 36 rows, half of them translations, and then spoil them."""
    table = [
        [f"{lang}{i}", str(i if i < 18 else f"{lang}{i}"), f"{lang} no {i}", "xyz"[i % 3]]
        for lang in ("en", "fr")
        for i in range(36)
    ]
    for source, target, what in mess:
        if what == "text":
            table[target][2] = table[source][2].upper() + " "
        elif what == "parallel":
            table[target][1] = table[source][1]
        elif source // 36 != target // 36:  # an id is unique within its language
            own = {row[0] for row in table[target // 36 * 36 :][:36]}
            table[target][0] = table[target][0] if table[source][0] in own else table[source][0]
    rows = [(a, b, c, d) for a, b, c, d in table]
    return {("t", "en"): rows[:36], ("t", "fr"): rows[36:]}


def draw_from_messy_data(
    mess: list[tuple[int, int, str]], cross: bool, seed: int, queries: int = 5
) -> list[Episode]:
    family = make_family(messy_tables(mess), "xyz")
    setting = CROSS if cross else WITHIN
    try:
        drawn = sampler(
            family, ways=2, shots=(0, 1, 2), queries=queries, seed=seed, setting=setting
        )
    except IclError:
        assume(False)
    return list(drawn.episodes(6))


def faces(examples: tuple[Example, ...]) -> tuple[set[str], set[str], set[str]]:
    return (
        {e.id for e in examples},
        {e.parallel_id for e in examples},
        {normalise(e.text) for e in examples},
    )


@settings(max_examples=150, deadline=None)
@given(copies, st.booleans(), st.integers(0, 9))
def test_support_and_query_share_no_id_parallel_id_or_text(
    mess: list[tuple[int, int, str]], cross: bool, seed: int
) -> None:
    for episode in draw_from_messy_data(mess, cross, seed):
        for support, query in zip(faces(episode.support), faces(episode.query), strict=True):
            assert not support & query


@settings(max_examples=100, deadline=None)
@given(copies, st.booleans(), st.integers(0, 9))
def test_a_text_with_two_labels_is_never_used(
    mess: list[tuple[int, int, str]], cross: bool, seed: int
) -> None:
    labels: dict[tuple[str, str], set[str]] = {}
    for (_, language), table in messy_tables(mess).items():
        for _, _, text, label in table:
            labels.setdefault((language, normalise(text)), set()).add(label)
    for episode in draw_from_messy_data(mess, cross, seed):
        for e in (*episode.support, *episode.query):
            assert len(labels[e.language, normalise(e.text)]) == 1


@settings(max_examples=100, deadline=None)
@given(copies, st.booleans(), st.integers(0, 9), st.sampled_from([5, 13, 20]))
def test_counts_are_as_asked_up_to_the_last_example(
    mess: list[tuple[int, int, str]], cross: bool, seed: int, queries: int
) -> None:
    for episode in draw_from_messy_data(mess, cross, seed, queries):
        per_class = Counter(e.label for e in episode.query)
        assert sorted(per_class.values()) == [queries // 2, queries - queries // 2]
        expected = dict.fromkeys(episode.labels.names, episode.shots) if episode.shots else {}
        assert Counter(e.label for e in episode.support) == expected


def test_no_example_stands_twice_in_an_episode(family: TaskFamily) -> None:
    for episode in sampler(family).episodes(20):
        ids = [e.id for e in (*episode.support, *episode.query)]
        assert len(ids) == len(set(ids))


def test_an_episode_does_not_depend_on_what_was_drawn_before(family: TaskFamily) -> None:
    forward = list(sampler(family).episodes(30))
    back = sampler(family)
    indices = [(i, k) for i in range(30) for k in (0, 1, 3)]
    assert [back.episode(i, k) for i, k in reversed(indices)] == forward[::-1]


@settings(max_examples=100, deadline=None)
@given(
    copies,
    st.booleans(),
    st.integers(0, 9),
    st.integers(1, 3),
    st.integers(0, 4),
    st.integers(1, 9),
)
def test_many_draws_at_once_equal_the_loop(
    mess: list[tuple[int, int, str]], cross: bool, seed: int, ways: int, shots: int, queries: int
) -> None:
    family = make_family(messy_tables(mess), "xyz")
    setting = CROSS if cross else WITHIN
    try:
        drawn = sampler(
            family, ways=ways, shots=(shots,), queries=queries, seed=seed, setting=setting
        )
    except IclError:
        assume(False)
    indices = range(3, 20)
    assert drawn.draws(indices, shots) == [drawn.draw(i, shots) for i in indices]


def test_the_iterator_equals_the_loop(family: TaskFamily) -> None:
    drawn = sampler(family)
    assert list(drawn.episodes(300)) == [drawn.episode(i, k) for i in range(300) for k in (0, 1, 3)]
    assert list(drawn.episodes(9, 291)) == list(drawn.episodes(300))[-27:]


def test_episodes_come_by_index_then_by_shots(family: TaskFamily) -> None:
    order = [(e.index, e.shots) for e in sampler(family, shots=(3, 0, 1)).episodes(2)]
    assert order == [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 3)]


@pytest.mark.parametrize("setting", [WITHIN, CROSS])
def test_supports_are_nested_and_queries_equal_over_shots(
    family: TaskFamily, setting: Setting
) -> None:
    drawn = sampler(family, setting=setting)
    for index in range(20):
        by_shots = [drawn.episode(index, k) for k in (0, 1, 2, 3)]
        for less, more in itertools.pairwise(by_shots):
            assert (less.query, less.labels) == (more.query, more.labels)
            inside = [e for e in more.support if e in less.support]
            assert inside == list(less.support), "a part, in the same relative order"


def test_asking_for_more_shots_leaves_the_other_episodes_as_they_were(family: TaskFamily) -> None:
    assert sampler(family, shots=(1, 3)).episode(5, 1) == sampler(family, shots=(1,)).episode(5, 1)


def test_cross_lingual_support_is_in_the_support_language_and_queries_are_not(
    family: TaskFamily,
) -> None:
    drawn = list(sampler(family, setting=CROSS).episodes(12))
    for episode in drawn:
        assert {e.language for e in episode.support} <= {"en"}
        assert {e.language for e in episode.query} == {episode.query_language}
        assert episode.support_language == "en" != episode.query_language
        assert all(word.endswith("-en") for word in episode.labels.words)
        assert episode.labels.template.input.startswith("[en]")
    assert {e.query_language for e in drawn} == {"fr", "sw"}


def test_within_support_and_query_share_the_language(family: TaskFamily) -> None:
    for episode in sampler(family).episodes(12):
        languages = {e.language for e in (*episode.support, *episode.query)}
        assert languages == {episode.support_language} == {episode.query_language}
        assert all(w.endswith(f"-{episode.query_language}") for w in episode.labels.words)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5))
def test_tasks_and_languages_are_dealt_evenly(tasks: int, languages: int, seed: int) -> None:
    family = regular_family(tasks, [f"l{i}" for i in range(languages)], labels=2, each=3)
    drawn = sampler(family, ways=2, shots=(1,), queries=2, seed=seed)
    cycle = [drawn.episode(i, 1) for i in range(tasks * languages)]
    assert len({(e.task, e.query_language) for e in cycle}) == tasks * languages
    for start in range(0, tasks * languages, tasks):
        assert len({e.task for e in cycle[start : start + tasks]}) == tasks
    for start in range(0, tasks * languages, languages):
        assert len({e.query_language for e in cycle[start : start + languages]}) == languages


def test_classes_examples_and_columns_are_uniform() -> None:
    family = regular_family(1, ["en"], labels=6, each=6)
    drawn = [
        sampler(family, ways=3, shots=(2,), queries=4, seed=s).episode(0, 2) for s in range(900)
    ]
    classes = Counter(name for e in drawn for name in e.labels.names)
    assert all(abs(n - 450) < 75 for n in classes.values())
    first = Counter(e.labels.names[0] for e in drawn)
    assert all(abs(n - 150) < 50 for n in first.values())
    used = Counter(x.id for e in drawn for x in e.support)
    assert len(used) == 36
    assert all(abs(n - 150) < 50 for n in used.values())
    extra = Counter(
        e.labels.index(Counter(x.label for x in e.query).most_common(1)[0][0]) for e in drawn
    )
    assert all(abs(n - 300) < 75 for n in extra.values()), "the remainder falls on any column"
    firsts = Counter(e.labels.index(e.support[0].label) for e in drawn)
    assert all(abs(n - 300) < 75 for n in firsts.values()), "the order tells nothing of the label"


def test_seed_split_setting_and_index_each_change_the_draw() -> None:
    table = regular_family(1, ["en", "fr"]).load
    splits = {n: Split(n, ("task0",), ("en", "fr")) for n in ("test", "other")}
    family = TaskFamily("toy", table, splits)

    def queries(split: str = "test", index: int = 0, **changes: object) -> list[str]:
        arguments: dict[str, object] = {"ways": 4, "shots": (1,), "queries": 9, "languages": ["fr"]}
        drawn = EpisodeSampler(family, split, **(arguments | changes))  # type: ignore[arg-type]
        return [e.id for e in drawn.episode(index, 1).query]

    draws = [
        queries(),
        queries("other"),
        queries(index=1),
        queries(seed=1),
        queries(setting=CROSS),
        queries(setting=Setting("renamed")),
    ]
    assert len({tuple(d) for d in draws}) == len(draws)


def test_the_split_decides_what_may_be_drawn(family: TaskFamily) -> None:
    split = Split(
        "test", ("task1",), ("fr",), lambda _task, label, id_: id_.endswith(tuple("0246"))
    )
    narrow = TaskFamily("toy", family.load, {"test": split})
    for episode in sampler(narrow, ways=3, shots=(1,), queries=3).episodes(10):
        assert (episode.task, episode.query_language) == ("task1", "fr")
        assert all(e.parallel_id[-1] in "0246" for e in (*episode.support, *episode.query))


def test_row_ids_shared_by_chance_across_languages_do_not_empty_the_pool() -> None:
    # Corpora that are not parallel often number their rows: the ids agree, the labels do not.
    def table(language: str, turn: int) -> list[Row]:
        return [
            (str(i), f"{language}{i}", f"{language} {i}", "xyz"[(i + turn) % 3]) for i in range(90)
        ]

    family = make_family({("t", "en"): table("en", 0), ("t", "fr"): table("fr", 1)}, "xyz")
    for episode in sampler(family, ways=3, shots=(3,), queries=9, setting=CROSS).episodes(10):
        assert not {e.id for e in episode.support} & {e.id for e in episode.query}


def test_generation_tasks_give_examples_without_labels(family: TaskFamily) -> None:
    import dataclasses

    generation = TaskFamily(
        "toy",
        lambda t, lang: dataclasses.replace(family.load(t, lang), kind=Generation(), labels=()),
        family.splits,
    )
    episode = sampler(generation).episode(0, 3)
    assert (len(episode.support), len(episode.query), len(episode.labels)) == (3, 10, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ways": 7}, ["task0", "'en'", "6 classes", "7 ways"]),
        ({"shots": (10,)}, ["task0", "0 classes", "10 + 3", "lower shots"]),
        ({"queries": 60}, ["60 queries"]),
        ({"tasks": ["tsk0"]}, ["Did you mean 'task0'"]),
        ({"languages": ["en", "xx"]}, ["no language 'xx'"]),
        ({"languages": []}, ["list of languages is empty"]),
        ({"languages": ["en"], "setting": CROSS}, ["no other language"]),
        ({"shots": ()}, ["number of shots"]),
        ({"shots": (-1,)}, ["shots is -1"]),
        ({"queries": 0}, ["queries is 0"]),
        ({"ways": 0}, ["ways is 0"]),
    ],
)
def test_bad_arguments_are_told_in_one_sentence(
    family: TaskFamily, changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(IclError) as caught:
        sampler(family, **changes)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_more_shots_than_announced_are_refused(family: TaskFamily) -> None:
    with pytest.raises(IclError, match="up to 3 shots"):
        sampler(family).episode(0, 4)


def test_labels_of_one_word_are_refused(family: TaskFamily) -> None:
    import dataclasses

    task = family.load("task0", "en")
    same = dataclasses.replace(task, words=dict.fromkeys(task.labels, "same"))
    with pytest.raises(IclError, match="'same' for both labels"):
        sampler(TaskFamily("toy", lambda *_: same, family.splits))


def digest() -> str:
    """Hash a run of episodes in two settings: the golden value below holds on any machine."""
    total = hashlib.sha256()
    for setting in (WITHIN, CROSS):
        for episode in sampler(regular_family(), setting=setting, queries=7).episodes(8):
            total.update(episode.to_json().encode())
    return total.hexdigest()


def test_the_same_seed_gives_the_same_bytes_for_ever() -> None:
    assert digest() == "5a02fe83f39c6f4a497477874f096d2868420c406d2d0e962a83da8636476614"


def part(indices: list[int]) -> dict[int, str]:
    """Draw some indices, as one process of several does."""
    drawn = sampler(regular_family())
    return {i: drawn.episode(i, 3).fingerprint for i in indices}


def test_two_processes_draw_what_one_does() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        halves = list(processes.map(part, [[0, 2, 4, 6], [7, 5, 3, 1]]))
    assert halves[0] | halves[1] == part(list(range(8)))


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_bytes_do_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    here = Path(__file__).parent
    code = "from tests.episodes.test_sampler import digest; print(digest())"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}",
    }
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout.strip() == digest()


@pytest.mark.parametrize("setting", [WITHIN, CROSS, Setting("x", other_domain=True)])
def test_a_split_without_examples_is_told(family: TaskFamily, setting: Setting) -> None:
    split = Split("test", ("task0",), ("fr",), lambda *_: False)
    with pytest.raises(IclError, match="task0"):
        sampler(TaskFamily("toy", family.load, {"test": split}), setting=setting)


def test_too_few_classes_are_told_with_the_scarcest_label_and_its_row() -> None:
    rows = [(str(i), str(i), f"text {i}", "x" if i else "rare") for i in range(9)]
    family = make_family({("t", "en"): rows}, ["x", "rare"])
    task = dataclasses.replace(family.load("t", "en"), lone={"rare": "moods.csv, row 2"})
    lonely = dataclasses.replace(family, load=lambda *_: task)
    with pytest.raises(IclError, match=r"the label 'rare' has 1: moods\.csv, row 2\); lower"):
        EpisodeSampler(lonely, "test", ways=2, shots=(1,), queries=2)


def test_a_label_without_examples_is_named() -> None:
    rows = [(str(i), str(i), f"text {i}", "xy"[i % 2]) for i in range(9)]
    family = make_family({("t", "en"): rows}, "xyz")
    with pytest.raises(IclError, match=r"has 2 classes \(none of 'z'\), fewer than 3 ways; lower"):
        EpisodeSampler(family, "test", ways=3, shots=(1,), queries=3)
