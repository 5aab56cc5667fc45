"""Rows of task collections: Super-NaturalInstructions, BIG-bench, MetaICL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import Row
from icl.tasks.sources.schema import Columns
from icl.tasks.sources.tables import read_json, read_table

# What the rows of each form hold.
COLLECTIONS: Mapping[str, Columns] = {
    "natural-instructions": Columns(
        id="id", label="output", fields={"input": "input", "definition": "definition"}
    ),
    "big-bench": Columns(label="answer", fields={"input": "input"}, options="options"),
    "metaicl": Columns(label="output", fields={"input": "input"}, options="options"),
}


def read_collection(path: Path, form: str) -> Iterator[Row]:
    """Read the rows of a task file, in the columns that `COLLECTIONS` names.

    Args:
        path: the file.
        form: a key of `COLLECTIONS`.

    Raises:
        IclError: the file is not of that form; the sentence names the row and the key.
    """
    return _READERS[form](path)


def _natural_instructions(path: Path) -> Iterator[Row]:
    """Rows of a Super-NaturalInstructions task (Wang et al. 2022, arXiv:2204.07705).

    ``output`` is the first of an instance's outputs, ``outputs`` all; ``definition`` is the task's
    instruction. The example instances in the file are left alone: episodes choose their own.
    """
    task = _mapping(path, read_json(path))
    definition = _key(path, task, "Definition", (str, list))
    if isinstance(definition, list):
        definition = "\n".join(str(part) for part in definition)
    for number, instance in enumerate(_key(path, task, "Instances", (list,)), start=1):
        where = f"{path}, row {number}"
        row = _mapping(where, instance)
        outputs = _key(where, row, "output", (str, list))
        outputs = [outputs] if isinstance(outputs, str) else outputs
        if not outputs:
            raise IclError(f"{where}: the key 'output' is empty; give an output or remove the row.")
        text = _key(where, row, "input", (str,))
        yield (
            number,
            {
                "id": row.get("id", str(number)),
                "input": text,
                "output": outputs[0],
                "outputs": outputs,
                "definition": definition,
            },
        )


def _big_bench(path: Path) -> Iterator[Row]:
    """Rows of a BIG-bench ``task.json`` (Srivastava et al. 2023, arXiv:2206.04615).

    ``options`` are the keys of `target_scores` and ``answer`` the one with the highest score;
    without scores, ``answer`` is the first target.
    """
    task = _mapping(path, read_json(path))
    for number, example in enumerate(_key(path, task, "examples", (list,)), start=1):
        where = f"{path}, row {number}"
        row = _mapping(where, example)
        text = _key(where, row, "input", (str,))
        if "target_scores" not in row:
            target = _key(where, row, "target", (str, list))
            targets = [target] if isinstance(target, str) else target
            if not targets:
                raise IclError(f"{where}: the key 'target' is empty; give a target.")
            yield number, {"input": text, "answer": targets[0], "targets": targets}
            continue
        scores = _key(where, row, "target_scores", (dict,))
        best = _best(where, scores)
        yield number, {"input": text, "options": list(scores), "answer": best}


def _best(where: str, scores: Mapping[str, Any]) -> str:
    for option, score in scores.items():
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise IclError(f"{where}: the score of {option!r} is no number; give one.")
    best = [option for option, score in scores.items() if score == max(scores.values())]
    if len(best) != 1:
        raise IclError(f"{where}: {len(best)} options have the highest score; give it to one.")
    return best[0]


def _metaicl(path: Path) -> Iterator[Row]:
    """Rows of a MetaICL file (Min et al. 2022, arXiv:2110.15943): input, output, options."""
    for number, row in read_table(path):
        where = f"{path}, row {number}"
        options = row.get("options", [])
        if not isinstance(options, list):
            raise IclError(f"{where}: the key 'options' is no list; give one.")
        text, output = _key(where, row, "input", (str,)), _key(where, row, "output", (str,))
        if options and output not in options:
            hint = did_you_mean(output, map(str, options))
            raise IclError(f"{where}: the output {output!r} is not among the options.{hint}")
        yield number, {"input": text, "output": output, "options": options}


def _mapping(where: object, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise IclError(f"{where}: not a JSON object; write {{…}}.")
    return value


def _key(where: object, row: Mapping[str, Any], key: str, kinds: tuple[type, ...]) -> Any:
    if key not in row:
        raise IclError(f"{where}: the key {key!r} is missing.{did_you_mean(key, row)}")
    if not isinstance(row[key], kinds):
        names = " or ".join(_KIND_NAMES[kind] for kind in kinds)
        raise IclError(f"{where}: the key {key!r} is not {names}; mend it.")
    return row[key]


_KIND_NAMES: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object"}
_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "natural-instructions": _natural_instructions,
    "big-bench": _big_bench,
    "metaicl": _metaicl,
}
