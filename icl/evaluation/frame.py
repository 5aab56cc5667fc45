"""Records as pandas tables: one row a query, one row an episode, and Parquet.

The columns that `icl.evaluation.analysis` looks at have the same names here, so that a table from
elsewhere with the columns ``learner``, ``episode``, ``query`` and ``right`` will do as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.runs.record import EpisodeRecord

if TYPE_CHECKING:
    import pandas as pd

# columns that both tables have, and the attributes of a record that they are
_EPISODE = {"learner": "learner", "method": "method", "episode": "fingerprint"} | {
    name: name
    for name in (
        "task", "setting", "split", "index", "ways", "shots", "support_language", "query_language",
    )
}  # fmt: skip
_COSTS = (
    "prompt_tokens", "computed_tokens", "shared_tokens", "seconds", "peak_memory_mb",
    "trained_parameters",
)  # fmt: skip
_FLOPS = ("forward_flops", "backward_flops")


def query_frame(records: Iterable[EpisodeRecord]) -> pd.DataFrame:
    """Return a table with one row for each learner and query.

    Columns: ``learner``, ``method``, ``episode`` (fingerprint), ``task``, ``setting``, ``split``,
    ``index``, ``ways``, ``shots``, ``support_language``, ``query_language``, ``query`` (its id),
    ``item`` (parallel id). For labels: ``gold`` and ``prediction`` (names), ``right`` (0 or 1),
    ``confidence`` (the prediction's probability), ``log_prob`` (of the right label) and
    ``log_probs`` (all, with ``gold_column``). For other kinds of tasks: ``text``, ``reference``,
    and a column for each metric. Columns of the other kind are missing values; they are left out
    where no row has them.
    """
    import pandas as pd

    rows = [row for record in records for row in _queries(record)]
    return pd.DataFrame(rows)


def episode_frame(records: Iterable[EpisodeRecord]) -> pd.DataFrame:
    """Return a table with one row for each learner and episode.

    It has the episode's columns of `query_frame`, ``queries``, a column for each metric (the mean
    over its queries), and what it cost: ``prompt_tokens``, ``computed_tokens``,
    ``shared_tokens`` (of those, what icl had computed before), ``seconds``,
    ``peak_memory_mb``, ``trained_parameters``, ``forward_flops`` and ``backward_flops`` (missing
    where they were not counted).
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {
                **_episode(record),
                "queries": len(record.query_ids),
                **{
                    name: math.fsum(record.outcomes(name)) / len(record.query_ids)
                    for name in record.metrics
                },
                **{name: getattr(record.cost, name) for name in _COSTS},
                **{
                    name: math.nan if (n := getattr(record.cost, name)) is None else float(n)
                    for name in _FLOPS
                },
            }
            for record in records
        ]
    )


def write_parquet(records: Iterable[EpisodeRecord], path: Path) -> Path:
    """Write `query_frame` as a Parquet file, to be read by pandas, Polars, DuckDB or R.

    Raises:
        IclError: there are no records, or the file cannot be written.
    """
    table = query_frame(records)
    if not len(table):
        raise IclError("There are no records to write; run an experiment first.")
    try:
        table.to_parquet(path, index=False)
    except OSError as error:
        raise IclError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path


def _episode(record: EpisodeRecord) -> dict[str, Any]:
    return {name: getattr(record, place) for name, place in _EPISODE.items()}


def _queries(record: EpisodeRecord) -> Iterable[Mapping[str, Any]]:
    shared = _episode(record)
    for n, (query, item) in enumerate(zip(record.query_ids, record.parallel_ids, strict=True)):
        row = {**shared, "query": query, "item": item}
        if record.scored:
            row |= {"text": record.texts[n], "reference": record.references[n]}
            row |= {name: values[n] for name, values in record.scores.items()}
        else:
            gold, predicted, scores = record.gold[n], record.predictions[n], record.log_probs[n]
            row |= {
                "gold": record.labels[gold],
                "prediction": record.labels[predicted],
                "right": float(predicted == gold),
                "confidence": min(1.0, math.exp(scores[predicted])),
                "log_prob": scores[gold],
                "log_probs": list(scores),
                "gold_column": gold,
            }
        yield row
