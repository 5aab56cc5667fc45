"""The definitions that icl brings along, on hand-made copies in the Hub's layout and on real files.

What each copy looks like (columns, their types, names and numbers of labels, configurations,
splits) is what the definition's `checked` says was looked up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest

from icl.episodes import EpisodeSampler
from icl.episodes.splits import check_disjoint
from icl.episodes.validity import check_episode
from icl.tasks.definitions.extends import family_names, find_definition, read_definition
from icl.tasks.definitions.family import Definition
from icl.tasks.definitions.survey import pairs, survey
from icl.tasks.family import build_family
from icl.tasks.sources.hub import HubSource

TEXT, INT = datasets.Value("string"), datasets.Value("int32")
LETTERS = ("A", "B", "C", "D")
Row = dict[str, Any]


def classes(*names: str) -> datasets.ClassLabel:
    return datasets.ClassLabel(names=list(names))


@dataclass(frozen=True)
class Copy:
    """A data set's shape: features, one row by its number and class, and the expected prompt."""

    features: Mapping[str, Any]
    row: Callable[[int, int], Row]
    prompt: str  # of row 0
    answer: str


def s(number: int) -> str:
    return f"sentence {number}"


ENTITY = {"text": TEXT, "type": TEXT, "indices": [[datasets.Value("int64")]]}
RELATIONS = read_definition(find_definition("fewrel")).tasks["relation"].labels
INTENTS = {
    name: read_definition(find_definition(name)).tasks["intent"].labels
    for name in ("banking77", "clinc150", "massive")
}

COPIES: dict[str, Copy] = {
    "afrisenti": Copy(
        {"tweet": TEXT, "label": classes("positive", "neutral", "negative")},
        lambda n, c: {"tweet": s(n), "label": c},
        "Tweet: sentence 0\nSentiment:", " positive",
    ),
    "ag-news": Copy(
        {"text": TEXT, "label": classes("World", "Sports", "Business", "Sci/Tech")},
        lambda n, c: {"text": s(n), "label": c},
        "Article: sentence 0\nTopic:", " World",
    ),
    "banking77": Copy(
        {"text": TEXT, "label": classes(*INTENTS["banking77"])},
        lambda n, c: {"text": s(n), "label": c},
        "Customer: sentence 0\nIntent:", " activate my card",
    ),
    "belebele": Copy(
        {"link": TEXT, "question_number": datasets.Value("int64"), "flores_passage": TEXT,
         "question": TEXT, **{f"mc_answer{i}": TEXT for i in range(1, 5)},
         "correct_answer_num": TEXT, "dialect": TEXT},
        lambda n, c: {
            "link": f"https://x.org/{n // 2}", "question_number": n % 2 + 1, "flores_passage": s(n),
            "question": f"q{n}?", **{f"mc_answer{i}": f"option {i}" for i in range(1, 5)},
            "correct_answer_num": str(c + 1), "dialect": "x",
        },
        "sentence 0\nQuestion: q0?\nA: option 1\nB: option 2\nC: option 3\nD: option 4\nAnswer:",
        " A",
    ),
    "boolq": Copy(
        {"question": TEXT, "answer": datasets.Value("bool"), "passage": TEXT},
        lambda n, c: {"question": f"is it {n}", "answer": bool(c), "passage": s(n)},
        "sentence 0\nQuestion: is it 0?\nAnswer:", " no",
    ),
    "clinc150": Copy(
        {"text": TEXT, "intent": classes("oos", *INTENTS["clinc150"])},
        lambda n, c: {"text": s(n), "intent": c + 1},
        "User: sentence 0\nIntent:", " current location",
    ),
    "fewrel": Copy(
        {"relation": TEXT, "tokens": [TEXT], "head": ENTITY, "tail": ENTITY, "names": [TEXT]},
        lambda n, c: {
            "relation": RELATIONS[c], "tokens": ["sentence", str(n)], "names": ["x", "y"],
            "head": {"text": "a", "type": "Q1", "indices": [[0]]},
            "tail": {"text": "b", "type": "Q2", "indices": [[1]]},
        },
        "sentence 0\nRelation of a to b:", " mother",
    ),
    "masakhanews": Copy(
        {"label": classes("business", "entertainment", "health", "politics", "religion", "sports",
                          "technology"),
         "headline": TEXT, "text": TEXT, "headline_text": TEXT, "url": TEXT},
        lambda n, c: {"label": c, "headline": s(n), "text": "…", "headline_text": "…", "url": "/"},
        "Headline: sentence 0\nTopic:", " business",
    ),
    "massive": Copy(
        {"id": TEXT, "label": TEXT, "label_text": TEXT, "text": TEXT, "lang": TEXT},
        lambda n, c: {"id": str(n), "label": INTENTS["massive"][c], "text": s(n), "lang": "xx",
                      "label_text": INTENTS["massive"][c]},
        "User: sentence 0\nIntent:", " datetime query",
    ),
    "mgsm": Copy(
        {"question": TEXT, "answer": TEXT, "answer_number": INT, "equation_solution": TEXT},
        lambda n, c: {"question": s(n), "answer": None, "answer_number": n,
                      "equation_solution": None},
        "Frage: sentence 0\nAntwort:", " 0",
    ),
    "nusax": Copy(
        {"id": TEXT, "text": TEXT, "lang": TEXT,
         "label": classes("negative", "neutral", "positive")},
        lambda n, c: {"id": str(n), "text": s(n), "lang": "x", "label": c},
        "Text: sentence 0\nSentiment:", " negative",
    ),
    "paws-x": Copy(
        {"id": INT, "sentence1": TEXT, "sentence2": TEXT, "label": classes("0", "1")},
        lambda n, c: {"id": n, "sentence1": s(n), "sentence2": f"other {n}", "label": c},
        "sentence 0\nother 0\nDo the two sentences mean the same? Yes or No?\nAnswer:", " No",
    ),
    "sib200": Copy(
        {"index_id": INT, "category": TEXT, "text": TEXT},
        lambda n, c: {"index_id": n, "text": s(n), "category": (
            "science/technology", "travel", "politics", "sports", "health", "entertainment",
            "geography")[c]},
        "Text: sentence 0\nTopic:", " science",
    ),
    "sst-2": Copy(
        {"idx": INT, "sentence": TEXT, "label": classes("negative", "positive")},
        lambda n, c: {"idx": n, "sentence": f"{s(n)} ", "label": c},
        "Review: sentence 0\nSentiment:", " negative",
    ),
    "trec": Copy(
        {"text": TEXT, "coarse_label": classes("ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"),
         "fine_label": INT},
        lambda n, c: {"text": s(n), "coarse_label": c, "fine_label": 0},
        "Question: sentence 0\nAnswer type:", " Abbreviation",
    ),
    "xcopa": Copy(
        {"premise": TEXT, "choice1": TEXT, "choice2": TEXT, "question": TEXT, "label": INT,
         "idx": INT, "changed": datasets.Value("bool")},
        lambda n, c: {"premise": s(n), "choice1": "one", "choice2": "two", "question": "effect",
                      "label": c, "idx": n, "changed": False},
        "sentence 0\nWhat was the effect?\nA: one\nB: two\nAnswer:", " A",
    ),
    "xnli": Copy(
        {"premise": TEXT, "hypothesis": TEXT,
         "label": classes("entailment", "neutral", "contradiction")},
        lambda n, c: {"premise": s(n), "hypothesis": f"other {n}", "label": c},
        "sentence 0\nFrage: other 0 Wahr, Falsch oder Weder?\nAntwort:", " Wahr",
    ),
    "xstorycloze": Copy(
        {"story_id": TEXT, **{f"input_sentence_{i}": TEXT for i in range(1, 5)},
         "sentence_quiz1": TEXT, "sentence_quiz2": TEXT, "answer_right_ending": INT},
        lambda n, c: {
            "story_id": str(n), **{f"input_sentence_{i}": f"{s(n)}.{i}" for i in range(1, 5)},
            "sentence_quiz1": "one", "sentence_quiz2": "two", "answer_right_ending": c + 1,
        },
        "sentence 0.1 sentence 0.2 sentence 0.3 sentence 0.4\nA: one\nB: two\nEnding:", " A",
    ),
}  # fmt: skip


def test_every_ready_set_has_a_copy() -> None:
    assert set(COPIES) | {"cldr"} == set(family_names())


def hub_source(definition: Definition) -> HubSource:
    (found,) = (source for source in definition.sources if isinstance(source, HubSource))
    return found


def parts_of(definition: Definition, source: HubSource) -> Iterator[tuple[str, str, str]]:
    """Yield (data split, the Hub's split, language) of all that the definition reads."""
    languages = {language for _, language in pairs(definition)}
    for part, language in itertools.product(definition.data, sorted(languages)):
        yield part, source.splits.get(part, part), language


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Definition]:
    """Return what makes a family read a hand-made repository in place of the Hub's."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def make(name: str) -> Definition:
        definition = read_definition(find_definition(name))
        (task,) = definition.tasks.values()
        copy, source = COPIES[name], hub_source(definition)
        folder = tmp_path / "repository"
        folder.mkdir()
        count = max(len(task.labels), 1)
        shared = any(split.share for split in definition.splits.values())
        each = 240 // count if shared else max(3, 60 // count)
        configs: dict[str, dict[str, str]] = {}
        done: set[tuple[str, str | None]] = set()
        for place, (_, split, language) in enumerate(parts_of(definition, source)):
            config = source.config and source.config.format(language=language, split=split, task="")
            rows = [copy.row(n, n % count) for n in range(each * count)]
            table = datasets.Dataset.from_list(rows, features=datasets.Features(copy.features))
            if source.files is not None:
                pattern = source.files.format(language=language, split=split, task="")
                file = folder / pattern.replace("*", "0000")
            else:
                if (split, config) in done:
                    continue
                file = folder / (config or "data") / f"{split}-{place}.parquet"
                where = str(file.relative_to(folder))
                configs.setdefault(config or "default", {})[split] = where
            done.add((split, config))
            file.parent.mkdir(parents=True, exist_ok=True)
            table.to_parquet(file)
        if configs:
            lines = ["---", "configs:"]
            for config, files in configs.items():
                lines += [f"- config_name: {config}", "  data_files:"]
                lines += [f"  - {{split: {split}, path: {path}}}" for split, path in files.items()]
            (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
        renamed = source.model_copy(update={"name": str(folder)})
        return definition.model_copy(update={"sources": (renamed,)})

    return make


def some_languages(definition: Definition) -> Definition:
    """Keep two languages of each split, so that few files have to be read."""
    splits = {
        name: split.model_copy(
            update={"languages": ("de", "en") if "de" in split.languages else split.languages[:2]}
        )
        for name, split in definition.splits.items()
    }
    return definition.model_copy(update={"splits": splits})


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COPIES))
def test_a_copy_in_the_hubs_layout_is_read_and_gives_episodes(
    name: str, local: Callable[[str], Definition]
) -> None:
    definition = some_languages(local(name))
    found = survey(definition, None)
    assert found.examples > 0
    assert found.unused == (), "every label is met"
    family = build_family(definition)
    (task_name,) = definition.tasks
    languages = {language for _, language in pairs(definition)}
    language = "de" if "de" in languages else min(languages)
    task = family.load(task_name, language)
    first = task.examples[0]
    assert task.template.render(first.fields) == COPIES[name].prompt
    word = task.words.get(first.label, first.label)
    assert task.template.answer(word) == COPIES[name].answer
    check_disjoint(family)
    ways = min(len(task.labels), 2) or 1
    for split in family.splits:
        sampler = EpisodeSampler(family, split, ways=ways, shots=(0, 1), queries=ways)
        for episode in sampler.episodes(2):
            check_episode(episode, name)


@pytest.mark.parametrize("name", sorted(COPIES))
def test_a_local_copy_in_the_directorys_layout_is_read(name: str, tmp_path: Path) -> None:
    definition = some_languages(read_definition(find_definition(name)))
    (task,) = definition.tasks.values()
    directory = definition.sources[0]
    count = max(len(task.labels), 1)
    rows = [COPIES[name].row(n, n % count) for n in range(3 * count)]
    hub, here = hub_source(definition).columns, directory.own_columns
    for row in rows:  # the directory may name its columns otherwise than the Hub
        values = {c: _at(row, hub.fields[f]) for f, c in here.fields.items()}
        values[here.label] = _named(row[hub.label], COPIES[name].features[hub.label])
        for column in (here.id, here.domain):
            for own in (column,) if isinstance(column, str) else column or ():
                values[own] = row.get(own, row.get("index_id", "somewhere"))
        for own in here.options or ():
            values[own] = row[own]
        row.clear()
        row.update(_nested(values))
    for part, language in itertools.product(definition.data, {x for _, x in pairs(definition)}):
        file = tmp_path / directory.file.format(language=language, split=part, task="")
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows).to_json(file, force_ascii=False)
    assert survey(definition, tmp_path).unused == ()


def _at(row: Row, column: str) -> Any:
    for step in column.split("."):
        row = row[step]
    return " ".join(row) if isinstance(row, list) else row


def _named(value: Any, feature: Any) -> Any:
    return feature.names[value] if isinstance(feature, datasets.ClassLabel) else value


def _nested(values: Row) -> Row:
    found: Row = {}
    for column, value in values.items():
        outer, _, inner = column.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = value
        else:
            found[outer] = value
    return found


@pytest.mark.parametrize(
    ("name", "folder", "examples"),
    [("sib200", "sib200", 24096), ("clinc150", "clinc150", 22500), ("nusax", "nusax_senti", 12000),
     ("fewrel", "fewrel", 11200)],
)  # fmt: skip
def test_real_files_are_read_in_full(
    name: str, folder: str, examples: int, shared_data: Path
) -> None:
    if not (shared_data / folder).is_dir():
        pytest.skip(f"no {shared_data / folder}; name the data in ICL_TEST_DATA")
    definition = read_definition(find_definition(name))
    found = survey(definition, shared_data / folder)
    assert (found.examples, found.unused) == (examples, ())
    family = build_family(definition, data=shared_data / folder)
    ways = min(3, *(len(s.labels or (0,) * 9) for s in definition.splits.values()))
    for split in family.splits:
        sampler = EpisodeSampler(family, split, ways=ways, shots=(0, 3), queries=6)
        for episode in sampler.episodes(3):
            check_episode(episode, name)
