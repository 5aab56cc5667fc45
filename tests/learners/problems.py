"""Small few-shot problems for learner tests."""

from __future__ import annotations

from icl.episodes import Episode
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template

TEMPLATE = Template(input="Word: {{ text }}\nKind:")
NAMES = ("month", "weekday", "organ")
TEXTS = {
    "month": ["January", "Juni", "May", "août", "март", "Setembro"],
    "weekday": ["Montag", "Tuesday", "jeudi", "среда", "月曜日", "viernes"],
    "organ": ["heart", "Leber", "rein", "ухо", "pulmón", "skin"],
}


def example(label: str, index: int) -> Example:
    name = f"{label}/{index}"
    return Example(name, {"text": TEXTS[label][index]}, label, "xx", name)


def labels(names: tuple[str, ...] = NAMES) -> Labels:
    return Labels(names, names, TEMPLATE)


def support(shots: int = 2, names: tuple[str, ...] = NAMES) -> list[Example]:
    return [example(label, i) for i in range(shots) for label in names]


def query(names: tuple[str, ...] = NAMES) -> list[Example]:
    return [example(label, i) for label in names for i in (4, 5)]


def episode(index: int = 0, shots: int = 2) -> Episode:
    names = NAMES[index % 3 :] + NAMES[: index % 3]
    return Episode(
        task="kind",
        labels=labels(names),
        support=tuple(support(shots, names)),
        query=tuple(query(names)),
        seed=0,
        index=index,
        shots=shots,
        split="train",
        setting="within",
        support_language="xx",
        query_language="xx",
    )
