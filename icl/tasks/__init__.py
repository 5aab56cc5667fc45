"""Tasks: definitions, templates, sources, families."""

from icl.tasks.definitions.extends import family_names
from icl.tasks.family import load_family
from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.sources.base import LocalSource, Row, Source, Wanted
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields, Template

__all__ = [
    "Example",
    "Fields",
    "Labels",
    "LocalSource",
    "Row",
    "Source",
    "Split",
    "Task",
    "TaskFamily",
    "Template",
    "Wanted",
    "family_names",
    "load_family",
]
