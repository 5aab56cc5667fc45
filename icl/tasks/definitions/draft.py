"""A first definition for someone's own data: what can be seen in the files is filled in."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from icl.errors import IclError, did_you_mean
from icl.tasks.definitions.json_schema import HEADER
from icl.tasks.sources.cells import label_of
from icl.tasks.sources.schema import SUFFIXES
from icl.tasks.sources.tables import read_table, stored_class_names
from icl.tasks.task import warn_of_near_labels
from icl.tasks.template import RESERVED

LABEL_NAMES = ("label", "labels", "category", "class", "intent", "sentiment", "topic", "target")
_REFERENCES = ("answer", "output", "target", "reference", "summary", "label")
TEXT_NAMES = ("text", "sentence", "input", "question", "utterance", "tweet", "content", "review")
_MOST_LABELS = 500
# How the rows of one file are dealt to the meta-splits: learning, choosing, judging.
_SHARES = {"train": [0, 0.5], "validation": [0.5, 0.6], "test": [0.6, 1]}


class _Dumper(yaml.SafeDumper):
    """Writes what a person would: no aliases, texts of several lines in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists out, each in its place."""
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if "\n" in text else None
    ),
)


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one family.

    Attributes:
        root: their directory.
        pattern: their places in it.
        languages, splits: what stands in the places.
        all: the files.
    """

    root: Path
    pattern: str
    languages: tuple[str, ...]
    splits: tuple[str, ...]
    all: tuple[Path, ...]


def draft_definition(
    data: Path,
    folder: Path,
    *,
    kind: str = "classification",
    label: str | None = None,
    fields: Sequence[str] = (),
    id_column: str | None = None,
    language: str = "en",
) -> tuple[str, str]:
    """Write a definition for data files, as YAML.

    Args:
        data: a table, a directory of tables named by their splits (``train.csv``), or one of
            languages x splits (``de/train.jsonl``).
        folder: where the definition will lie; its `root` is relative to it.
        kind: what the task is, one of `DRAFTED`.
        label: the column of labels or references; None: one with a usual name.
        fields: the text columns; none: one with a usual name.
        id_column: a column of ids; None: ``id`` where there is one, else the row's number.
        language: of files that do not lie in directories by language.

    Returns:
        The family's name and the definition.

    Raises:
        IclError: the files or columns are not there, or hold no labels.
    """
    files = _find(data, language)
    columns = columns_of(files.all[0])
    if kind not in DRAFTED:
        raise IclError(f"--kind is {kind!r}; say {' or '.join(DRAFTED)}.")
    drafted = DRAFTED[kind]
    target = chosen_column(label, columns, drafted.columns, "--label", files.all[0])
    shown = [chosen_column(f, columns, (), "--text", files.all[0]) for f in fields]
    if not shown:
        rest = [c for c in columns if c != target]
        shown = [chosen_column(None, rest, TEXT_NAMES, "--text", files.all[0])]
    if id_column is not None:
        chosen_column(id_column, columns, (), "--id", files.all[0])
    elif "id" in columns:
        id_column = "id"
    names = {field_name(column): column for column in shown}
    name = re.sub(r"[^a-z0-9_-]+", "-", data.stem.lower()).strip("-_") or "mine"
    task: dict[str, Any] = {"kind": kind, **drafted.part(files, target)}
    lines = [f"{field.capitalize()}: {{{{ {field} }}}}" for field in names]
    task["template"] = {"input": "\n".join([*lines, f"{drafted.cue}:"])}
    source: dict[str, Any] = {
        "type": "directory",
        "root": Path(os.path.relpath(files.root.resolve(), folder.resolve())).as_posix(),
        "file": files.pattern,
        "columns": {"label": target, "fields": names, **({"id": id_column} if id_column else {})},
    }
    definition = {
        "schema_version": 1,
        "name": name,
        "description": f"Examples of {data.name}",
        "licence": "unknown",
        "sources": [source],
        "data": list(files.splits),
        "tasks": {name: task},
        **_splits(files),
    }
    text = yaml.dump(
        definition,
        Dumper=_Dumper,
        default_flow_style=None,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return name, HEADER + text


def _find(data: Path, language: str) -> _Files:
    if data.is_file():
        if data.suffix not in SUFFIXES:
            raise IclError(f"{data} ends in none of {', '.join(SUFFIXES)}; convert it to one.")
        pattern = data.name.replace("{", "{{").replace("}", "}}")
        return _Files(data.parent, pattern, (language,), ("all",), (data,))
    if not data.is_dir():
        raise IclError(f"There is no file or directory {data}; check the path.")
    flat = _tables(data)
    if flat:
        suffix = flat[0].suffix
        own = tuple(f for f in flat if f.suffix == suffix)
        splits = _order([f.stem for f in own])
        return _Files(data, f"{{split}}{suffix}", (language,), splits, own)
    folders = sorted(p for p in data.iterdir() if p.is_dir() and _tables(p))
    if not folders:
        raise IclError(
            f"{data} holds no tables; give one that ends in {', '.join(SUFFIXES)}, or directories "
            "of them by language."
        )
    suffix = _tables(folders[0])[0].suffix
    common = set.intersection(
        *({f.stem for f in _tables(p) if f.suffix == suffix} for p in folders)
    )
    if not common:
        raise IclError(f"No file name is in all of the directories in {data}; name them alike.")
    splits = _order(sorted(common))
    every = tuple(p / f"{split}{suffix}" for p in folders for split in splits)
    languages = tuple(p.name for p in folders)
    return _Files(data, f"{{language}}/{{split}}{suffix}", languages, splits, every)


def _tables(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in SUFFIXES)


def _order(splits: Sequence[str]) -> tuple[str, ...]:
    usual = ["train", "validation", "valid", "val", "dev", "test"]
    return tuple(sorted(splits, key=lambda s: usual.index(s) if s in usual else len(usual)))


def columns_of(file: Path) -> list[str]:
    """Return a table's columns, as its first row has them; raises `IclError` for one of no rows."""
    for _, row in read_table(file):
        return [str(column) for column in row]
    raise IclError(f"{file} has no rows; fill it.")


def chosen_column(
    asked: str | None, columns: Sequence[str], usual: Sequence[str], option: str, file: Path
) -> str:
    """Return the column asked for, or else the one with a usual name.

    Raises:
        IclError: there is none; names the nearest, or `option`.
    """
    if asked is not None:
        if asked not in columns:
            raise IclError(f"{file} has no column {asked!r}.{did_you_mean(asked, columns)}")
        return asked
    lower = {column.lower(): column for column in reversed(columns)}
    for name in usual:
        if name in lower:
            return lower[name]
    raise IclError(
        f"{file} has no column with a usual name for it; say {option} and one of "
        f"{', '.join(columns)}."
    )


def field_name(column: str) -> str:
    """Return a name that a template can say."""
    name = re.sub(r"\W+", "_", column).strip("_").lower()
    return name if name.isidentifier() and name not in RESERVED else f"field_{name}"


def _labels(files: _Files, column: str) -> list[str]:
    found: dict[str, None] = {}
    for file in files.all:
        for number, row in read_table(file):
            try:
                found[label_of(row, column)] = None
            except IclError as error:
                raise IclError(f"{file}, row {number}: {error}") from error
            if len(found) > _MOST_LABELS:
                raise IclError(
                    f"{file}: the column {column!r} holds more than {_MOST_LABELS} different "
                    "labels; name another with --label, or say --kind generation."
                )
    warn_of_near_labels(sorted(found), str(files.root))
    return sorted(found)


def _classes(files: _Files, column: str) -> dict[str, str]:
    """Return number -> name of the classes that all files say their numbers stand for."""
    said = [stored_class_names(file).get(column, []) for file in files.all]
    alike = all(names == said[0] for names in said)
    return {str(number): name for number, name in enumerate(said[0])} if alike else {}


def _label_part(files: _Files, column: str) -> dict[str, Any]:
    found, classes = _labels(files, column), _classes(files, column)
    part: dict[str, Any] = {"labels": [classes.get(label, label) for label in found]}
    if classes:
        part["label_map"] = {n: name for n, name in classes.items() if n in found}
    return part


@dataclass(frozen=True, slots=True)
class _Drafted:
    """What a kind's draft needs: usual names of its column, its part of the task, and its cue."""

    columns: Sequence[str]
    part: Callable[[_Files, str], dict[str, Any]]
    cue: str


DRAFTED = {
    "classification": _Drafted(LABEL_NAMES, _label_part, "Label"),
    "generation": _Drafted(_REFERENCES, lambda *_: {"metrics": ["exact_match"]}, "Answer"),
}


def _splits(files: _Files) -> Mapping[str, Any]:
    languages = list(files.languages)
    parts: dict[str, dict[str, Any]] = {name: {"data": [name]} for name in files.splits}
    if len(parts) == 1:
        parts = {name: {"share": share} for name, share in _SHARES.items()}
    return {
        "splits": {name: {"languages": languages, **part} for name, part in parts.items()},
        "disjoint": [[*pair, "id"] for pair in itertools.combinations(parts, 2)],
    }
