"""The data sets on which `choose_defaults.py` tries embeddings, and episodes of a few rows of each.

No test part of a data set is read where it has another, and no language that its definition holds
out for tests. GoEmotions is read with its rows of one emotion alone; of Parallel Universal
Dependencies it is asked whether a sentence stood in the news or in Wikipedia.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icl.episodes import Episode, EpisodeSampler
from icl.episodes.setting import WITHIN, Setting
from icl.tasks import load_family
from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.task import Example
from icl.tasks.template import Template

SHOTS = (1, 5)
QUERIES, SEED = 15, 0
_SPLIT = "tried"


@dataclass(frozen=True)
class Source:
    """A data set's rows: which family, of which of its splits, tasks and languages, and how many.

    Attributes:
        family: of icl's own, or one that is read here.
        each: rows of a task, language and label.
        labels: how many of a task's labels; 0 for all.
        support: the language of every support set; None for that of the queries.
    """

    family: str
    languages: tuple[str, ...]
    each: int
    tasks: tuple[str, ...] = ()
    labels: int = 0
    support: str | None = None
    folder: str = ""


_SEEN = ("word-kind", "country-continent", "language-script", "country-currency")
_NEW = ("city-continent", "language-continent", "currency-continent")
DATA: dict[str, Source] = {
    "sib200": Source("sib200", ("eng_Latn", "hin_Deva", "zho_Hans"), 10, folder="sib200"),
    "sib200, less known languages": Source(
        "sib200", ("fin_Latn", "kor_Hang", "ben_Beng"), 10, folder="sib200"
    ),
    "sib200, English support": Source(
        "sib200", ("eng_Latn", "fin_Latn", "kor_Hang"), 10, support="eng_Latn", folder="sib200"
    ),
    "clinc150": Source("clinc150", ("eng",), 10, labels=20, folder="clinc150"),
    "nusax": Source("nusax", ("ind", "jav", "eng"), 22, folder="nusax_senti"),
    "fewrel": Source("fewrel", ("eng",), 25, folder="fewrel"),
    "goemotions": Source("goemotions", ("eng_Latn",), 30, folder="goemotions"),
    "news or encyclopaedia": Source(
        "ud_pud", ("eng_Latn", "arb_Arab", "kor_Hang"), 40, folder="ud_pud"
    ),
    "cldr": Source("cldr", ("de", "ja", "hi"), 9, tasks=_SEEN),
    "cldr, other tasks": Source("cldr", ("fr", "ru", "ar"), 9, tasks=_NEW),
}


def family_of(source: Source, data: Path) -> TaskFamily:
    """Return a family of a data set's chosen rows alone: what is embedded is little."""
    own = _READ.get(source.family)
    if own is not None:
        load, tasks = own(data / source.folder), (source.family,)
    else:
        whole = load_family(source.family, data=data / source.folder if source.folder else None)
        tasks = source.tasks or whole.splits["train"].tasks

        def load(task: str, language: str) -> Task:
            found = whole.load(task, language)
            return replace(found, examples=whole.examples("train", task, language), lone={})

    def thinned(task: str, language: str) -> Task:
        found = load(task, language)
        by_label: dict[str, list[Example]] = {}
        for example in sorted(found.examples, key=lambda e: _lot(e.parallel_id)):
            by_label.setdefault(example.label, []).append(example)
        names = sorted(by_label, key=_lot)[: source.labels or None]
        rows = [e for name in names for e in by_label[name][: source.each]]
        return replace(found, examples=rows)

    split = Split(_SPLIT, tasks, source.languages)
    return TaskFamily(source.family, thinned, {_SPLIT: split})


def _lot(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _rows(folder: Path, language: str, part: str = "train") -> list[dict[str, Any]]:
    lines = (folder / language / f"{part}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _task(name: str, language: str, rows: Sequence[tuple[str, str, str]], asked: str) -> Task:
    """Return a task of (id, text, label)."""
    labels = tuple(sorted({label for *_, label in rows}))
    examples = [Example(i, {"text": text}, label, language, i) for i, text, label in rows]
    template = Template(f"Text: {{{{ text }}}}\n{asked}:")
    return Task(name, language, examples, labels, {n: n for n in labels}, template)


def _goemotions(folder: Path) -> Any:
    def load(task: str, language: str) -> Task:
        rows = [row for row in _rows(folder, language) if len(row["labels"]) == 1]
        told = [(row["id"], row["text"], row["labels"][0]) for row in rows]
        return _task(task, language, told, "Emotion")

    return load


def _register(folder: Path) -> Any:
    """Whether a sentence stood in the news or in Wikipedia, which its id in PUD tells."""

    def load(task: str, language: str) -> Task:
        kinds = {"n": "news", "w": "encyclopaedia"}
        told = [
            (row["id"], " ".join(row["tokens"]), kinds[row["id"][0]])
            for row in _rows(folder, language)
        ]
        return _task(task, language, told, "Source")

    return load


_READ: Mapping[str, Any] = {"goemotions": _goemotions, "ud_pud": _register}


def episodes_of(source: Source, data: Path, count: int) -> list[Episode]:
    """Draw a data set's episodes, `count` at each number of shots, of five ways or all."""
    family = family_of(source, data)
    tasks = family.splits[_SPLIT].tasks
    sizes = (len(family.load(t, n).labels) for t in tasks for n in source.languages)
    setting = WITHIN if source.support is None else Setting("across", source.support)
    ways = min(5, *sizes)
    sampler = EpisodeSampler(
        family, _SPLIT, ways=ways, shots=SHOTS, queries=QUERIES, setting=setting, seed=SEED
    )
    return list(sampler.episodes(count))
