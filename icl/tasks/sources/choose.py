"""Choosing a family's source and reading a task in a language from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from icl.errors import IclError
from icl.tasks.definitions.family import Definition
from icl.tasks.sources.base import Row, Source, UnreachableError, Wanted
from icl.tasks.sources.rows import examples_from_rows
from icl.tasks.sources.spill import held
from icl.tasks.task import Example

# task, language -> examples, and where the only example of a label stands
Reader = Callable[[str, str], tuple[Sequence[Example], Mapping[str, str]]]


def choose_source(definition: Definition, data: Path | None) -> Source:
    """Choose the first source that is at hand.

    Args:
        definition: the family.
        data: the directory that the user named, if any.

    Raises:
        IclError: a named directory does not exist or is of no use, or no source is at hand.
    """
    for source in definition.sources:
        found = source.at_hand(definition.name, data)
        if found is not None:
            return found
    if data is not None:
        raise IclError(f"{definition.name!r} is read from no directory; leave `--data` out.")
    raise IclError(
        f"The data of {definition.name!r} are not at hand; name their directory with `--data` or "
        f"in the environment variable {' or '.join(_variables(definition))}."
    )


def open_source(definition: Definition, data: Path | None) -> Reader:
    """Return how to read a task in a language from the first source that is at hand.

    Raises:
        IclError: see `choose_source`.
    """
    source = choose_source(definition, data)
    local = _variables(definition) if source.variable is None else []
    hint = f" Or name a local copy with `--data` or {local[0]}." if local else ""

    def read(task: str, language: str) -> tuple[Sequence[Example], Mapping[str, str]]:
        own = definition.tasks[task]
        columns = own.columns_in(source)
        alone: dict[str, str] = {}

        def examples_of(part: str) -> Iterator[Example]:
            wanted = Wanted(task, language, part, own.labels)
            where = source.place(wanted)
            rows = _checked(source, wanted, where, hint)
            return examples_from_rows(
                rows, where, own, columns, language=language, part=part, alone=alone
            )

        parts = map(examples_of, definition.data or ("",))
        examples = held(itertools.chain.from_iterable(parts), language)
        return examples, {stratum: where for stratum, where in alone.items() if where}

    return read


def _variables(definition: Definition) -> list[str]:
    return [source.variable for source in definition.sources if source.variable]


def _checked(source: Source, wanted: Wanted, where: str, hint: str) -> Iterator[Row]:
    number = 0
    try:
        for pair in source.rows(wanted):
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise IclError(
                    f"{where}, after row {number}: not a number and a mapping; give both."
                )
            number, row = pair
            if not isinstance(row, Mapping):
                raise IclError(f"{where}, row {number}: not a mapping; give column -> value.")
            yield number, row
    except UnreachableError as error:
        raise IclError(f"{error}{hint}") from error
    except IclError:
        raise
    except Exception as error:  # somebody's own code may fail in any way
        raise IclError(
            f"{where} failed after row {number}: {error!r}; mend its code or its options."
        ) from error
