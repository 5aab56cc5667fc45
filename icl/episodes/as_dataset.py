"""Episodes as a `datasets.Dataset`, there and back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.episodes.episode import Episode
from icl.errors import IclError, did_you_mean
from icl.tasks.kinds.registry import said
from icl.tasks.task import Example
from icl.tasks.template import Template

if TYPE_CHECKING:
    from datasets import Dataset, Features

_INTEGERS = ("seed", "index", "shots")
_SETS = ("support", "query", "pool")
_MAY_LACK = ("pool", "kind")  # in what was written before there were pools, and kinds


def to_dataset(episodes: Iterable[Episode]) -> Dataset:
    """Turn episodes into a dataset with a row an episode, ready to be saved or pushed to the Hub.

    Columns are those of `Episode`. `labels` holds ``names``, ``words`` and ``template``;
    `support` and `query` are lists of examples, whose ``fields`` are lists of (name, value)
    pairs, since the names differ between tasks and their order counts. `kind` is JSON.
    """
    from datasets import Dataset

    rows = [_row(e) for e in episodes]
    columns = {f.name: [row[f.name] for row in rows] for f in fields(Episode)}
    return Dataset.from_dict(columns, features=_features())


def from_dataset(dataset: Dataset) -> Iterator[Episode]:
    """Read what `to_dataset` wrote, row by row; the fingerprints are the same.

    Raises:
        IclError: a column is missing.
    """
    for field in fields(Episode):
        if field.name not in dataset.column_names and field.name not in _MAY_LACK:
            raise IclError(
                f"The dataset has no column {field.name!r} and so holds no episodes."
                + did_you_mean(field.name, dataset.column_names)
            )
    return (_episode(row) for row in dataset)


def save_dataset(episodes: Iterable[Episode], path: Path) -> None:
    """Save `to_dataset` as a folder that `datasets.load_from_disk` reads, or as a .parquet file.

    Raises:
        IclError: the place is taken or cannot be written.
    """
    if path.exists():
        raise IclError(f"{path} exists; name another place.")
    dataset = to_dataset(episodes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            dataset.to_parquet(str(path))
        else:
            dataset.save_to_disk(str(path))
    except OSError as error:
        raise IclError(f"{path} cannot be written ({error}); name another place.") from error


def load_dataset(path: Path) -> Iterator[Episode]:
    """Read what `save_dataset` wrote.

    Raises:
        IclError: there is no data set of episodes.
    """
    import datasets

    try:
        if path.is_file():
            dataset = datasets.Dataset.from_parquet(str(path))
        else:
            dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # many libraries stand behind this, each with errors of its own
        reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
        raise IclError(
            f"{path} cannot be read as a data set: {reason}; name what `icl episodes export` wrote."
        ) from error
    if not isinstance(dataset, datasets.Dataset):
        raise IclError(f"{path} holds several data sets; name one of them.")
    return from_dataset(dataset)


def _features() -> Features:
    from datasets import Features, Value

    text = Value("string")
    pair = {"name": text, "value": text}
    example = {f.name: [pair] if f.name == "fields" else text for f in fields(Example)}
    template = {f.name: text for f in fields(Template)}
    special = {
        "labels": {"names": [text], "words": [text], "template": template},
        **{key: [example] for key in _SETS},
        **dict.fromkeys(_INTEGERS, Value("int64")),
    }
    return Features({f.name: special.get(f.name, text) for f in fields(Episode)})


def _row(episode: Episode) -> dict[str, Any]:
    row: dict[str, Any] = {"pool": [], **json.loads(episode.to_json())}
    row["kind"] = json.dumps(said(episode.kind), ensure_ascii=False)
    for example in itertools.chain.from_iterable(row[side] for side in _SETS):
        pairs = example["fields"].items()
        example["fields"] = [{"name": name, "value": value} for name, value in pairs]
        example.setdefault("domain", "")
    return row


def _episode(row: dict[str, Any]) -> Episode:
    values = {f.name: row[f.name] for f in fields(Episode) if row.get(f.name) is not None}
    for example in itertools.chain.from_iterable(values.get(side, ()) for side in _SETS):
        example["fields"] = {pair["name"]: pair["value"] for pair in example["fields"]}
    if "kind" in values:
        values["kind"] = json.loads(values["kind"])
    return Episode.from_json(json.dumps(values))
