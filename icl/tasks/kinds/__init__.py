"""Kinds of tasks: what a task asks, and how its answers are read, put and judged."""

from icl.tasks.kinds.base import Kind, Metric, Question, Target
from icl.tasks.kinds.task_labels import Vocabulary
from icl.tasks.sources.cells import label_of, text_of, value_at

__all__ = [
    "Kind",
    "Metric",
    "Question",
    "Target",
    "Vocabulary",
    "label_of",
    "text_of",
    "value_at",
]
