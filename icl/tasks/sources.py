"""Reading examples: a directory of JSON Lines files, or the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.definition import CldrSource, Definition, DirectorySource, HubSource
from icl.tasks.rows import examples_from_rows
from icl.tasks.task import Example

Reader = Callable[[str, str], list[Example]]  # task, language -> examples


def open_source(definition: Definition, data: Path | None) -> Reader:
    """Choose the first source that is at hand and return how to read a task in a language.

    Args:
        definition: the family.
        data: the directory that the user named, if any.

    Raises:
        IclError: a named directory does not exist, or no source is at hand.
    """
    for source in definition.sources:
        if isinstance(source, DirectorySource):
            named = data or (Path(os.environ[source.env]) if os.environ.get(source.env) else None)
            if named is None:
                continue
            folder = named.expanduser()
            if not folder.is_dir():
                raise IclError(
                    f"The data directory {folder} of {definition.name!r} does not exist; check "
                    f"`--data` or the environment variable {source.env}."
                )
            return _directory_reader(definition, source, folder)
        if isinstance(source, HubSource):
            return _hub_reader(definition, source)
        if isinstance(source, CldrSource):
            return _cldr_reader(definition)
    asked = [s.env for s in definition.sources if isinstance(s, DirectorySource)]
    raise IclError(
        f"The data of {definition.name!r} are not at hand; name their directory with `--data` or "
        f"in the environment variable {' or '.join(asked)}."
    )


def _cldr_reader(definition: Definition) -> Reader:
    from icl.tasks.cldr import cldr_examples

    return lambda task, language: cldr_examples(task, language, definition.tasks[task].labels)


def _directory_reader(definition: Definition, source: DirectorySource, folder: Path) -> Reader:
    def read(task: str, language: str) -> list[Example]:
        labels, examples = definition.tasks[task].labels, []
        for part in definition.data:
            path = folder / source.file.format(language=language, split=part)
            if not path.is_file():
                languages = [p.name for p in folder.iterdir() if p.is_dir()]
                hint = did_you_mean(language, languages) if languages else ""
                raise IclError(f"{definition.name!r} has no file {path}; check `--data`.{hint}")
            examples += examples_from_rows(
                json_lines(path),
                source.columns,
                labels,
                language=language,
                part=part,
                where=str(path),
            )
        return examples

    return read


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON Lines file; raises `IclError` with file, row and mend."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise IclError(f"{path}, row {number}: not a JSON object; write {{…}} a line.")
                yield row
    except json.JSONDecodeError as error:
        raise IclError(f"{path}, row {number}: not valid JSON ({error.msg}); mend it.") from error
    except UnicodeDecodeError as error:
        raise IclError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    except OSError as error:
        raise IclError(f"{path} cannot be read: {error.strerror}.") from error


def _hub_reader(definition: Definition, source: HubSource) -> Reader:
    def read(task: str, language: str) -> list[Example]:
        labels, examples = definition.tasks[task].labels, []
        config = source.config.format(language=language) if source.config else None
        for part in definition.data:
            examples += examples_from_rows(
                hub_rows(source, config, source.splits.get(part, part), definition),
                source.columns,
                labels,
                language=language,
                part=part,
                where=f"{source.name}, config {config}, split {part}",
            )
        return examples

    return read


def hub_rows(
    source: HubSource, config: str | None, split: str, definition: Definition
) -> Iterator[dict[str, Any]]:
    """Read one split from the Hub; class labels come as their names.

    Raises:
        IclError: the data set cannot be had, with how to use a local directory instead.
    """
    import datasets

    try:
        table = datasets.load_dataset(source.name, config, split=split, revision=source.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        envs = [s.env for s in definition.sources if isinstance(s, DirectorySource)]
        local = f" Or name a local copy with `--data` or {envs[0]}." if envs else ""
        raise IclError(
            f"The data set {source.name!r} (config {config!r}, split {split!r}) cannot be read "
            f"from the Hub: {reason.rstrip('.')}; check the network and the name.{local}"
        ) from error
    named = table.features.get(source.columns.label)
    for row in table:
        if isinstance(named, datasets.ClassLabel) and row[source.columns.label] is not None:
            row[source.columns.label] = named.int2str(row[source.columns.label])
        yield row
