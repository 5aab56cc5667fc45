"""Putting an example as its kind does, held to what learners rely on."""

from __future__ import annotations

from dataclasses import replace

from icl.errors import IclError
from icl.tasks.kinds.base import Kind
from icl.tasks.kinds.registry import kind_name
from icl.tasks.task import Example, Labels


def asked(kind: Kind, example: Example, labels: Labels, space: Labels) -> list[Example]:
    """Return what a learner sees of an example: one a question, its label the right answer.

    Args:
        kind: of the task.
        example: with an answer in the kind's own spelling.
        labels: the episode's.
        space: what `kind.space` makes of them.

    Raises:
        IclError: the kind asks nothing, or for an answer that is none of the space's names.
    """
    questions = kind.questions(example, labels)
    if not questions:
        raise IclError(
            f"The kind of task {kind_name(kind)!r} asks nothing of the example {example.id!r}; let"
            " its `questions` return one or more."
        )
    for question in questions:
        if not kind.writes and question.answer not in space.names:
            raise IclError(
                f"The kind of task {kind_name(kind)!r} asks {example.id!r} for"
                f" {question.answer!r}, which is none of {', '.join(space.names)}; let `questions`"
                " answer with names of its `space`."
            )
    return [
        replace(
            example,
            id=example.id if len(questions) == 1 else f"{example.id}/{place}",
            fields=question.fields,
            label=question.answer,
        )
        for place, question in enumerate(questions)
    ]
