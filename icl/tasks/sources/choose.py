"""Choosing a family's source and reading a task in a language from it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from icl.errors import IclError, did_you_mean
from icl.tasks.definitions.family import Definition
from icl.tasks.sources.cells import text_of
from icl.tasks.sources.hub import hub_rows
from icl.tasks.sources.lm_eval import lm_eval_rows
from icl.tasks.sources.plugins import plugin_rows
from icl.tasks.sources.rows import LabelRows, Row, Rows, examples_from_rows
from icl.tasks.sources.schema import (
    CldrSource,
    DirectorySource,
    HubSource,
    LmEvalSource,
    PluginSource,
    Source,
)
from icl.tasks.sources.spill import held
from icl.tasks.sources.tables import read_table
from icl.tasks.sources.task_files import read_collection
from icl.tasks.task import Example

# task, language -> examples, and where the only example of a label stands
Reader = Callable[[str, str], tuple[Sequence[Example], Mapping[str, str]]]
Reading = Callable[[str, str, str], Rows]  # task, language, data split -> rows


def choose_source(definition: Definition, data: Path | None) -> tuple[Source, Path | None]:
    """Choose the first source that is at hand, with its directory if it has one.

    Args:
        definition: the family.
        data: the directory that the user named, if any.

    Raises:
        IclError: a named directory does not exist or is of no use, or no source is at hand.
    """
    local = [s for s in definition.sources if isinstance(s, DirectorySource | LmEvalSource)]
    if data is not None and not local:
        raise IclError(f"{definition.name!r} is read from no directory; leave `--data` out.")
    for source in definition.sources:
        if not isinstance(source, DirectorySource | LmEvalSource):
            if data is None:
                return source, None
            continue
        folder = _folder(definition, source, data)
        if folder is not None:
            return source, folder
    asked = " or ".join(source.env for source in local if source.env)
    raise IclError(
        f"The data of {definition.name!r} are not at hand; name their directory with `--data` or "
        f"in the environment variable {asked}."
    )


def open_source(definition: Definition, data: Path | None) -> Reader:
    """Return how to read a task in a language from the first source that is at hand.

    Raises:
        IclError: see `choose_source`.
    """
    source, folder = choose_source(definition, data)
    if isinstance(source, CldrSource):
        return _cldr_reader(definition)
    if isinstance(source, HubSource):
        return _row_reader(definition, source, _hub(definition, source))
    if isinstance(source, PluginSource):
        return _row_reader(definition, source, _plugin(source))
    assert folder is not None
    if isinstance(source, LmEvalSource):
        return _row_reader(definition, source, _lm_eval(source, folder))
    return _row_reader(definition, source, _directory(definition, source, folder))


def _folder(
    definition: Definition, source: DirectorySource | LmEvalSource, data: Path | None
) -> Path | None:
    """Return the directory of a source: the user's, the environment's or the definition's."""
    named = os.environ.get(source.env, "") if source.env else ""
    folder = data or (Path(named) if named else source.root)
    if folder is None:
        return None
    folder = folder.expanduser()
    if not folder.is_dir():
        variable = f" or the environment variable {source.env}" if source.env else ""
        raise IclError(
            f"The data directory {folder} of {definition.name!r} does not exist; check "
            f"`--data`{variable}."
        )
    return folder


def _cldr_reader(definition: Definition) -> Reader:
    from icl.tasks.sources.cldr import cldr_examples

    return lambda task, language: (
        tuple(cldr_examples(task, language, definition.tasks[task].labels)),
        {},
    )


def _row_reader(definition: Definition, source: Source, reading: Reading) -> Reader:
    def read(task: str, language: str) -> tuple[Sequence[Example], Mapping[str, str]]:
        own = definition.tasks[task]
        columns = own.columns_in(source)
        counts = LabelRows()
        parts = (
            examples_from_rows(
                reading(task, language, part), own, columns, language=language, part=part,
                counts=counts,
            )
            for part in definition.data
        )  # fmt: skip
        examples = held(itertools.chain.from_iterable(parts), language)
        return examples, counts.lone()

    return read


def _within(folder: Path, place: str) -> Path:
    """Return a place in a folder; raises `IclError` for one that leads out of it."""
    parts = Path(place)
    if parts.is_absolute() or ".." in parts.parts:
        raise IclError(
            f"The file {place!r} lies outside the data directory {folder}; a definition may only"
            " name files in it."
        )
    return folder / parts


def _directory(definition: Definition, source: DirectorySource, folder: Path) -> Reading:
    def rows(task: str, language: str, part: str) -> Rows:
        path = _within(folder, source.file.format(language=language, split=part, task=task))
        if not path.is_file():
            languages = [p.name for p in folder.iterdir() if p.is_dir()]
            near = source.file.startswith("{language}/") and languages
            hint = did_you_mean(language, languages) if near else ""
            raise IclError(f"{definition.name!r} has no file {path}; check `--data`.{hint}")
        found = (
            read_table(path) if source.format == "table" else read_collection(path, source.format)
        )
        wanted = _wanted(source.where, task, language, part)
        return Rows(str(path), _only(found, wanted, str(path)))

    return rows


def _hub(definition: Definition, source: HubSource) -> Reading:
    envs = [s.env for s in definition.sources if isinstance(s, DirectorySource) and s.env]
    hint = f" Or name a local copy with `--data` or {envs[0]}." if envs else ""

    def rows(task: str, language: str, part: str) -> Rows:
        split = source.splits.get(part, part)
        config = source.config and source.config.format(language=language, split=split, task=task)
        files = source.files and source.files.format(language=language, split=split, task=task)
        found = hub_rows(
            source.name,
            config=config,
            split=split,
            revision=source.revision,
            files=files,
            streaming=source.streaming,
            limit=source.limit,
            hint=hint,
        )
        where = f"{source.name}, config {config}, split {split}"
        return Rows(where, _only(found, _wanted(source.where, task, language, part), where))

    return rows


def _plugin(source: PluginSource) -> Reading:
    def rows(task: str, language: str, part: str) -> Rows:
        found = plugin_rows(source.name, source.options, language=language, split=part, task=task)
        return Rows(f"The source {source.name!r}, {language}, {part}", found)

    return rows


def _lm_eval(source: LmEvalSource, folder: Path) -> Reading:
    def rows(task: str, language: str, part: str) -> Rows:
        path = _within(folder, source.file.format(language=language, split=part, task=task))
        return Rows(f"{path}, {part}", lm_eval_rows(path, part, source.splits, folder))

    return rows


def _wanted(where: Mapping[str, str], task: str, language: str, part: str) -> dict[str, str]:
    return {c: p.format(language=language, split=part, task=task) for c, p in where.items()}


def _only(rows: Iterator[Row], wanted: Mapping[str, str], where: str) -> Iterator[Row]:
    """Keep the rows whose columns hold what is wanted."""
    for number, row in rows:
        try:
            kept = all(text_of(row, column) == text for column, text in wanted.items())
        except IclError as error:
            raise IclError(f"{where}, row {number}: {error}") from error
        if kept:
            yield number, row
