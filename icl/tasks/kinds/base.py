"""`Kind`: what a task asks, and how that comes down to what every learner answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from icl.tasks.kinds.task_labels import Vocabulary
from icl.tasks.sources.schema import Columns, Strict
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.yamlfile import fault


@dataclass(frozen=True, slots=True)
class Target:
    """What a row's right answer is, as `Example.label` writes it, and fields that go with it."""

    label: str
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What a learner is asked: fields for the template, and the right one of the space's names.

    Where answers are written, `answer` is the reference.
    """

    fields: Fields
    answer: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure by which answers are judged, a share: 0 is the worst and 1 the best.

    Attributes:
        score: of an answer against the right one, both as `Example.label` writes them.
        chance: what guessing evenly scores.
    """

    score: Callable[[str, str], float]
    chance: float = 0.0


class Kind(Strict, ABC):
    """What a task asks.

    A learner does two things: it chooses among the labels of a space, or it writes. A kind puts
    each example as one question or several of that sort, and settles the answers to a query's into
    one; so every method serves every kind. Answers are texts in a spelling of the kind's own, in
    which `Example.label` holds the right one.

    A kind's fields are its part of a task's YAML, beside the `Vocabulary` that all have. An episode
    says its kind with them, so what is said here of `labels` is of an episode's unless it is said.

    Attributes:
        labelled: whether the task has labels.
        writes: whether a learner writes the answer, where it else chooses one.
        single: whether an example's answer is one of the labels and one question asks for it. A
            record then holds the labels' log-probabilities, from which all its figures come.
        some_ways: whether an episode draws some of the strata, as many as `ways`; else all take
            part.
    """

    labelled: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    single: ClassVar[bool] = False
    some_ways: ClassVar[bool] = False

    # Of a task's definition and its rows

    def check(self, task: Vocabulary) -> None:
        """Raise a fault (`icl.tools.yamlfile.fault`) where labels and the like do not fit."""
        if self.labelled:
            if len(task.labels) < 2:
                raise fault("give two labels or more", "labels")
            return
        for name in ("labels", "label_map", "words"):
            if getattr(task, name):
                told = type(self).__name__.lower()
                raise fault(f"a {told} task has no labels; remove them", name)

    def check_columns(self, task: str, columns: Columns, labels: Sequence[str]) -> None:
        """Raise a fault inside of `columns` where rows do not hold what a task of this name needs.

        `labels` are the task's.
        """

    def shows(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the fields that templates can show beside a row's own; `labels` are the task's."""
        return ()

    @abstractmethod
    def target(self, row: Mapping[str, Any], columns: Columns, task: Vocabulary) -> Target:
        """Return a row's right answer.

        Raises:
            IclError: the row holds none; say what is wrong, file and row are added.
        """

    # Of drawing episodes

    def strata(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return what an episode balances its examples over; `labels` are the task's."""
        return ("",)

    def stratum(self, label: str) -> str:
        """Return the stratum of an example by its `label`."""
        return ""

    def among(self, labels: tuple[str, ...], strata: tuple[str, ...]) -> tuple[str, ...]:
        """Return an episode's labels: those of the task's that it asks about with these strata."""
        return labels

    @property
    def in_episode(self) -> Kind:
        """The kind of the task's episodes, for which rows are read already."""
        return self

    # Of asking and judging

    def space(self, labels: Labels) -> Labels:
        """Return what a learner is told: what it chooses among, and the template of a question."""
        return labels

    def questions(self, example: Example, labels: Labels) -> Sequence[Question]:
        """Put an example as one question or more, each with an answer out of `space`."""
        return (Question(example.fields, example.label),)

    def settle(self, answers: Sequence[Any], labels: Labels) -> str:
        """Return the answer to a query from those to its questions.

        By default there is one question, whose likeliest answer, or what was written, is it.

        Args:
            answers: one a question: the log-probabilities of `space` in its order, or what a
                learner has written.
            labels: the episode's.
        """
        (answer,) = answers
        if isinstance(answer, str):
            return answer
        best: str = self.space(labels).names[answer.index(max(answer))]
        return best

    @abstractmethod
    def measures(self, labels: Labels) -> Mapping[str, Metric]:
        """Return what judges answers, by names that reports show, the most telling first.

        Raises:
            IclError: a library that one needs is not installed.
        """

    def show(self, answer: str, labels: Labels) -> str:
        """Return an answer as people read it."""
        return answer
