from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from icl.errors import IclError
from icl.tasks import load_family
from icl.tasks.sources.base import Wanted
from icl.tasks.sources.cldr import CldrSource, _subtags
from icl.tasks.task import normalise

pytest.importorskip("babel", reason="the extra `offline` is not installed")
SOURCE = CldrSource(type="cldr")
FAMILY = load_family("cldr")
LANGUAGES = sorted({language for split in FAMILY.splits.values() for language in split.languages})
TASKS = FAMILY.splits["test"].tasks


def test_the_family_has_at_least_six_tasks_twenty_languages_and_six_scripts() -> None:
    assert len(TASKS) >= 6
    assert len(LANGUAGES) >= 20
    scripts = {_subtags(language)[1] for language in LANGUAGES}  # type: ignore[index]
    assert len(scripts) >= 6


@pytest.mark.parametrize(
    ("task", "language", "text", "label"),
    [
        ("word-kind", "de", "Montag", "weekday"),
        ("word-kind", "ja", "ケニア", "country"),
        ("country-continent", "sw", "Misri", "Africa"),
        ("country-continent", "ru", "Бразилия", "America"),
        ("city-continent", "fi", "Tukholma", "Europe"),
        ("city-continent", "en", "Nairobi", "Africa"),
        ("language-script", "fr", "bulgare", "Cyrillic"),
        ("language-continent", "de", "Zulu", "Africa"),
        ("country-currency", "el", "Γαλλία", "euro"),
        ("currency-continent", "en", "Nigerian Naira", "Africa"),
    ],
)
def test_known_facts_are_there(task: str, language: str, text: str, label: str) -> None:
    assert (text, label) in {(e.text, e.label) for e in FAMILY.load(task, language).examples}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_task_can_fill_four_ways_of_five_shots_and_three_queries(language: str) -> None:
    for task in TASKS:
        counts = Counter(e.label for e in FAMILY.load(task, language).examples)
        assert sum(count >= 8 for count in counts.values()) >= 4, (task, counts)


@pytest.mark.parametrize("task", TASKS)
def test_an_item_has_one_label_in_every_language_and_a_text_has_one_in_each(task: str) -> None:
    of_item: dict[str, str] = {}
    for language in LANGUAGES:
        of_text: dict[str, str] = {}
        for e in FAMILY.load(task, language).examples:
            assert of_item.setdefault(e.parallel_id, e.label) == e.label
            assert of_text.setdefault(normalise(e.text), e.label) == e.label
            assert e.label in FAMILY.load(task, language).labels


def test_names_do_not_depend_on_which_languages_were_read_before() -> None:
    """Babel's stand-alone months and weekdays do; what we read must not."""
    code = (
        "import json, sys; from icl.tasks import load_family; f = load_family('cldr');"
        "print(json.dumps([e.text for e in f.load('word-kind', sys.argv[1]).examples]))"
    )
    for language in ("am", "de"):
        alone = subprocess.run(
            [sys.executable, "-c", code, language], capture_output=True, text=True, check=True
        )
        for other in LANGUAGES:
            list(SOURCE.rows(Wanted("word-kind", other, labels=("month", "weekday"))))
        fresh = load_family("cldr").load("word-kind", language)
        assert [e.text for e in fresh.examples] == json.loads(alone.stdout)


def test_untranslated_names_are_left_out_where_latin_letters_are_foreign() -> None:
    for task in TASKS:
        assert not any(e.text.isascii() for e in FAMILY.load(task, "am").examples)


def test_unknown_tasks_and_languages_are_refused() -> None:
    with pytest.raises(IclError, match="Did you mean 'word-kind'"):
        FAMILY.load("word-kinds", "en")
    with pytest.raises(IclError, match="CLDR has no language 'xx'"):
        list(SOURCE.rows(Wanted("word-kind", "xx", labels=("month",))))


def test_without_babel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(IclError, match=r"pip install 'icl\[offline\]'"):
        list(SOURCE.rows(Wanted("word-kind", "en", labels=("month",))))
