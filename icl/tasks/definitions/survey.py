"""Reading all that a definition promises, to tell of what is wrong before an experiment does."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from icl.errors import IclError
from icl.tasks.definitions.family import Definition
from icl.tasks.family import build_family
from icl.tasks.kinds.posing import asked
from icl.tasks.task import Labels, warn_of_near_labels


@dataclass(frozen=True, slots=True)
class Survey:
    """What was read.

    Attributes:
        examples: how many, over tasks and languages.
        unused: (task, label) pairs of which no language has an example.
    """

    examples: int
    unused: tuple[tuple[str, str], ...]


def survey(definition: Definition, data: Path | None) -> Survey:
    """Read every example of every task and language and render it with every template.

    Raises:
        IclError: for whatever is wrong with the data, among it a label with one example, which no
            episode could both show and ask for; the sentence names the file and the row.
    """
    family = build_family(definition, data=data)
    count = 0
    seen: Counter[tuple[str, str]] = Counter()
    for name, own in definition.tasks.items():
        warn_of_near_labels(own.labels, f"The task {name!r}")
    for name, language in pairs(definition):
        task = family.load(name, language)
        for label, where in task.lone.items():
            raise IclError(
                f"{where}: the label {label!r} has this one example in {language!r}; add another, "
                "or list the label under `skip` and take it out of `labels`."
            )
        for template in definition.tasks[name].named_templates.values():
            words = tuple(task.words[label] for label in task.labels)
            labels = Labels(task.labels, words, template.build(language))
            space = task.kind.space(labels)
            for example in task.examples:
                for question in asked(task.kind, example, labels, space):
                    space.template.render(question.fields)
        if not task.examples:
            raise IclError(
                f"The task {name!r} of {definition.name!r} has no example in {language!r}; add "
                "some, or take the language out of the splits."
            )
        count += len(task.examples)
        seen.update((name, example.label) for example in task.examples)
    wanted = (
        (name, label)
        for name, task in definition.tasks.items()
        if task.kind.single
        for label in task.labels
    )
    return Survey(count, tuple(pair for pair in wanted if pair not in seen))


def pairs(definition: Definition) -> list[tuple[str, str]]:
    """Return the (task, language) pairs that the splits name, each once."""
    found = itertools.chain.from_iterable(
        itertools.product(definition.tasks_of(split), split.languages)
        for split in definition.splits.values()
    )
    return list(dict.fromkeys(found))
