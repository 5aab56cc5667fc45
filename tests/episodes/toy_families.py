"""Small task families that need no data and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.task import Example
from icl.tasks.template import Template

Row = tuple[str, str, str, str]  # id, parallel id, text, label


def make_family(
    tables: Mapping[tuple[str, str], Sequence[Row]],
    labels: Sequence[str],
    splits: Mapping[str, Split] | None = None,
    name: str = "toy",
    disjoint: tuple[tuple[str, str, str], ...] = (),
) -> TaskFamily:
    """Build a family from rows by (task, language); every split name is ``test`` by default."""
    loaded = {
        (task, language): Task(
            name=task,
            language=language,
            examples=tuple(
                Example(id_, {"text": text}, label, language, parallel)
                for id_, parallel, text, label in rows
            ),
            labels=tuple(labels),
            words={label: f"{label}-{language}" for label in labels},
            template=Template(input=f"[{language}] {{{{ text }}}} ="),
        )
        for (task, language), rows in tables.items()
    }
    if splits is None:
        tasks = tuple(dict.fromkeys(task for task, _ in tables))
        languages = tuple(dict.fromkeys(language for _, language in tables))
        splits = {"test": Split("test", tasks, languages)}
    return TaskFamily(name, lambda task, lang: loaded[task, lang], splits, disjoint)


def regular_family(
    tasks: int = 2, languages: Sequence[str] = ("en", "fr", "sw"), labels: int = 6, each: int = 12
) -> TaskFamily:
    """Build a parallel family: the same ids in every language, a text of its own in each."""
    names = [f"label{i}" for i in range(labels)]
    tables = {
        (f"task{t}", language): [
            (f"{language}-{t}-{i}-{j}", f"{t}-{i}-{j}", f"{language} text {t} {i} {j}", names[i])
            for j in range(each)
            for i in range(labels)
        ]
        for t in range(tasks)
        for language in languages
    }
    return make_family(tables, names)
