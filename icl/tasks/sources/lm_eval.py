"""Multiple-choice tasks of lm-evaluation-harness, from their YAML files.

The common subset: ``output_type: multiple_choice`` with `doc_to_text`, `doc_to_choice` and
`doc_to_target` as columns, Jinja2 or plain values, and `include`. What needs Python code
(``!function``, `process_docs`) is refused: such a file never runs code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import LocalSource, Row, Wanted, check_splits
from icl.tasks.sources.cells import value_at
from icl.tasks.sources.hub import hub_rows
from icl.tasks.sources.schema import Columns, Pattern
from icl.tasks.template import render
from icl.tools.yamlfile import read_yaml

_SPLITS = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
_CODE = "!function"
_READ = "multiple_choice"  # the one output type
_NEEDED = ("dataset_path", "doc_to_text", "doc_to_choice", "doc_to_target")
_ARGUMENTS = ("data_files", "data_dir", "revision")
_DEEPEST_INCLUDE = 10


class LmEvalSource(LocalSource):
    """Multiple-choice tasks of lm-evaluation-harness, from their YAML files.

    A row has ``text`` (the rendered `doc_to_text`), ``choices`` and ``answer`` (the right choice).

    Attributes:
        file: the task's YAML file in the directory, with places.
        splits: data split in the definition -> the data set's name of it; by default train,
            validation and test are the task's `training_split`, `validation_split`, `test_split`.
        columns: by default those of a row.
    """

    remote: ClassVar[bool] = True

    file: Pattern = "{task}.yaml"
    splits: Mapping[str, str] = Field(default_factory=dict)

    @property
    def fixed_columns(self) -> Columns:
        """What a row has."""
        return Columns(label="answer", fields={"text": "text"}, options="choices")

    def place(self, wanted: Wanted) -> str:
        """Return the task's file and the data split."""
        return f"{self.within(wanted.fill(self.file))}, {wanted.split}"

    def rows(self, wanted: Wanted) -> Iterator[Row]:
        """Read the documents of a split; all that the task's file names lies in the directory.

        Raises:
            IclError: the file is not of the subset, or a document does not fit it.
        """
        path, part = self.within(wanted.fill(self.file)), wanted.split
        task = _task(path, self.folder)
        split = self.splits.get(part) or task.get(_SPLITS.get(part, ""))
        if not isinstance(split, str):
            raise IclError(
                f"{path} names no split for {part!r}; name it under the source's `splits`, or use "
                f"{', '.join(k for k, v in _SPLITS.items() if task.get(v))} in `data`."
            )
        arguments = dict(task.get("dataset_kwargs") or {})
        if arguments.pop("trust_remote_code", False):
            raise IclError(f"{path} asks to run the data set's own code, which icl does not.")
        unknown = sorted(map(str, arguments.keys() - _ARGUMENTS))
        if unknown:
            raise IclError(
                f"{path}: `dataset_kwargs` has {', '.join(unknown)}; only {', '.join(_ARGUMENTS)}"
                " can be read."
            )
        for number, document in hub_rows(
            task["dataset_path"],
            config=task.get("dataset_name"),
            split=split,
            folder=self.folder,
            class_names=False,  # lm-eval's templates and targets see the numbers
            **arguments,
        ):
            try:
                yield number, _row(task, document)
            except IclError as error:
                raise IclError(f"{path}, document {number} of {split!r}: {error}") from error

    def check(self, data: Sequence[str]) -> None:
        """Look whether `splits` names data splits of the definition."""
        check_splits(self.splits, data)


def _task(path: Path, folder: Path) -> dict[str, Any]:
    """Read a task's YAML with what it includes; raises `IclError` for what is not supported."""
    task = _read(path, folder.resolve(), 0)
    output = task.get("output_type")
    if output != _READ:
        raise IclError(f"{path} has the output_type {output!r}; only {_READ} can be read.")
    for key in _NEEDED:
        if task.get(key) is None:
            raise IclError(f"{path} has no {key!r}, which a multiple-choice task needs.")
    for key in (*_NEEDED, "process_docs"):
        value = task.get(key)
        if (key == "process_docs" and value is not None) or _CODE in str(value):
            raise IclError(f"{path} needs Python code for {key!r}, which icl does not run.")
    if not isinstance(task["doc_to_text"], str) or not isinstance(task["dataset_path"], str):
        raise IclError(f"{path}: `doc_to_text` and `dataset_path` must be texts.")
    if not isinstance(task["doc_to_choice"], str | list | dict):
        raise IclError(f"{path}: `doc_to_choice` must be a text, a list or a mapping.")
    if not isinstance(task["doc_to_target"], str | int):
        raise IclError(f"{path}: `doc_to_target` must be a text or a number.")
    return task


def _read(path: Path, folder: Path, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST_INCLUDE:
        raise IclError(f"{path}: files include each other in a circle; break it.")
    task, _ = read_yaml(path, marks=(_CODE,))  # a marker, never a function
    if not isinstance(task, dict):
        raise IclError(f"{path} holds no task; it needs {', '.join(_NEEDED)}.")
    include = task.pop("include", None)
    if include is None:
        return task
    if not isinstance(include, str):
        raise IclError(f"{path}: `include` must name one file.")
    included = path.parent / include
    if not included.resolve().is_relative_to(folder):
        raise IclError(f"{path} includes {include!r}, which lies outside the data directory.")
    return _read(included, folder, depth + 1) | task


def _row(task: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    choices = _choices(task["doc_to_choice"], document)
    target = _target(task["doc_to_target"], document)
    if isinstance(target, str):
        if target not in choices:
            hint = did_you_mean(target, choices)
            raise IclError(f"the target {target!r} is not among the choices.{hint}")
    elif not 0 <= target < len(choices):
        raise IclError(f"the target is {target} but there are {len(choices)} choices.")
    else:
        target = choices[target]
    text = str(_column_or_template(task["doc_to_text"], document))
    return {"text": text, "choices": choices, "answer": target}


def _choices(source: Any, document: Mapping[str, Any]) -> list[str]:
    if isinstance(source, str):
        found = _column_or_template(source, document)
        if isinstance(found, str):
            try:
                found = ast.literal_eval(found)
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise IclError(
                    f"`doc_to_choice` gives {found[:60]!r}, which is no list."
                ) from error
    else:
        found = list(source.values()) if isinstance(source, dict) else source
    if not isinstance(found, list | tuple) or not found:
        raise IclError(f"`doc_to_choice` gives {str(found)[:60]!r}, which is no list.")
    return [str(choice) for choice in found]


def _target(source: Any, document: Mapping[str, Any]) -> int | str:
    """Return the right choice's place or text, by lm-eval's rule: of texts, only a template's
    becomes a number (`ConfigurableTask.doc_to_target`); a column's "2" is the choice "2"."""
    if not isinstance(source, str):
        return int(source)
    found = _column_or_template(source, document)
    if isinstance(found, str) and source not in document and found.isdecimal():
        return int(found)
    return found if isinstance(found, int | str) else str(found)


def _column_or_template(source: str, document: Mapping[str, Any]) -> Any:
    """Return a column's value, or a template's text."""
    return value_at(document, source) if source in document else render(source, document)
