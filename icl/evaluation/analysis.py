"""The statistics on a pandas table of queries, whoever made it.

Columns: ``learner``; ``episode`` and ``query``, which together name a query that all learners have
answered; ``right``, the outcome in [0, 1] (or another column, named by `value`). ``item`` names
what is the same in several episodes or languages; without it, queries are clustered by draw only.
``draw`` names what was drawn once, as an episode at several numbers of shots is; without it, draws
are told by the columns of `icl.evaluation.frame.query_frame`, which makes such a table of a run's
records (see `draw_of`), and where these are missing too each episode is a draw of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from icl.errors import IclError, did_you_mean
from icl.evaluation.decomposition import decompose
from icl.evaluation.draws import Asked, number_draws, strata
from icl.evaluation.pairs import pairs
from icl.evaluation.ranks import Ranks, rank
from icl.evaluation.resampling import Rows, bootstrap, probability_of_best
from icl.evaluation.statistics import LEVEL, ClusteredSample, clustered_sample

if TYPE_CHECKING:
    import pandas as pd

RIGHT = "right"


def means(frame: pd.DataFrame, value: str = RIGHT, level: float = LEVEL) -> pd.DataFrame:
    """Return each learner's mean with its interval, the best first.

    Every episode weighs the same. Columns: ``learner``, ``mean``, ``low``, ``high``,
    ``probability_best`` (of having the highest true mean).

    Raises:
        IclError: a column is missing, or not every learner has answered every query once.
    """
    import pandas as pd

    learners, sample = _sample(frame, value)
    found = sample.means(level)
    table = pd.DataFrame(
        {
            "learner": learners,
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            "probability_best": probability_of_best(sample),
        }
    )
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def compare(
    frame: pd.DataFrame, value: str = RIGHT, *, against: str | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """Return all paired comparisons of two learners on the same queries.

    Columns: ``first``, ``second``, ``difference`` of means with ``low`` and ``high``; ``p`` of the
    clustered test and ``p_holm``, corrected over the rows of this table; ``low_bootstrap`` and
    ``high_bootstrap``, over redrawn draws, and ``p_permutation``, by signs of whole draws
    (both blind to items in several draws); ``p_mcnemar``, blind to all clustering (missing where
    outcomes are graded); effect sizes ``d_z``, ``h`` and ``superiority`` over draws (see
    `icl.evaluation.pairs.Pair`).

    Args:
        frame: the queries.
        value: the column with the outcomes.
        against: compare all with this learner only. Name it before you have seen the figures: who
            compares with the best that the data show compares all pairs, which is the default.
        level: of the intervals.

    Raises:
        IclError: as `means`, or an unknown learner.
    """
    import pandas as pd

    learners, sample = _sample(frame, value)
    if against is not None and against not in learners:
        raise IclError(f"There is no learner {against!r}." + did_you_mean(against, learners))
    found = pairs(learners, sample, against=against, level=level)
    table = pd.DataFrame([asdict(pair) for pair in found])
    return table.astype({"p_mcnemar": "float64"}) if found else table


def ranks(
    frame: pd.DataFrame, value: str = RIGHT, *, by: str = "task", level: float = LEVEL
) -> tuple[pd.DataFrame, Ranks]:
    """Return learners by mean rank over the values of a column, and the tests behind it.

    Two learners whose mean ranks differ by more than ``critical_difference`` differ over tasks (or
    whatever `by` names). The table has ``learner`` and ``mean_rank``, the best first; the arrays
    of `Ranks` are in the order of the table.

    Raises:
        IclError: as `means`, there are fewer than two learners or values of `by`, or two values
            share a draw, as numbers of shots do: then they are no independent observations.
    """
    import pandas as pd

    _need(frame, ("learner", "episode", value, by))
    if (frame.groupby(draw_of(frame).to_numpy())[by].nunique() > 1).any():
        raise IclError(
            f"Values of {by!r} share draws (queries or support sets), so they are no independent"
            " observations to rank over; take another column, such as 'task'."
        )
    episodes = frame.groupby(["learner", by, "episode"], observed=True)[value].mean()
    scores = episodes.groupby(["learner", by], observed=True).mean().unstack(by)
    if scores.isna().to_numpy().any():
        raise IclError(f"Not every learner has outcomes for every value of {by!r}; drop the rest.")
    if min(scores.shape) < 2:
        raise IclError(f"Ranks need two learners and two values of {by!r} or more.")
    array = scores.to_numpy(dtype=np.float64)
    first = rank(array, level)
    order = np.argsort(first.mean, kind="stable")
    found = rank(array[order], level)
    names = [str(scores.index[i]) for i in order]
    return pd.DataFrame({"learner": names, "mean_rank": found.mean}), found


def variance(frame: pd.DataFrame, factors: Sequence[str], value: str = RIGHT) -> pd.DataFrame:
    """Part the variance of means among factors such as seed, order, template or training run.

    Every combination of the factors' values must have the same draws. Columns: ``source`` (a
    factor, two factors' interaction, or ``rest``), ``share`` of the variance, ``luck`` (the share
    that noise between draws alone would give) and ``p`` (F test with draws as subjects,
    Holm-corrected over the factors); see `icl.evaluation.decomposition`.

    Raises:
        IclError: a column is missing, or combinations differ in their episodes.
    """
    import pandas as pd

    _need(frame, (*factors, "episode", value))
    frame = frame.assign(_draw=draw_of(frame).to_numpy())
    keys = [*factors, "_draw"]
    episodes = frame.groupby([*keys, "episode"], observed=True, sort=True)[value].mean()
    cells = episodes.groupby(keys, observed=True, sort=True).mean()
    levels = [list(dict.fromkeys(sorted(frame[name].unique()))) for name in keys]
    full = pd.MultiIndex.from_product(levels, names=keys)
    whole = cells.reindex(full)
    if whole.isna().any():
        raise IclError(
            f"Not every combination of {', '.join(factors)} has every episode's draw; keep what all"
            " have, or drop a factor."
        )
    array = whole.to_numpy(dtype=np.float64).reshape([len(level) for level in levels])
    effects, rest = decompose(array, list(factors))
    rows: list[dict[str, Any]] = [
        {"source": " × ".join(e.factors), "share": e.share, "luck": e.luck, "p": e.p}
        for e in effects
    ]
    table = pd.DataFrame([*rows, {"source": "rest", "share": rest, "luck": None, "p": None}])
    return table.astype({"luck": "float64", "p": "float64"})


def metrics(
    frame: pd.DataFrame, *, draws: int = 200, seed: int = 0, level: float = LEVEL
) -> pd.DataFrame:
    """Return every classification metric of each learner, with bootstrap intervals.

    Labels are pooled by task and name, queries weigh the same, and intervals redraw whole draws, as
    many of each setting as there are, `draws` times (missing for the worst of several, and for the
    gap). Columns: ``learner``,
    ``metric``, ``value``, ``low``, ``high``. Metrics of probabilities need the columns
    ``log_probs`` and ``gold_column``; the cross-lingual gap is there where a language is judged
    both within and across.

    Raises:
        IclError: a column is missing.
    """
    import pandas as pd

    _need(frame, ("learner", "episode", "task", "gold", "prediction"))
    rows = []
    clusters = draw_of(frame).to_numpy()
    for learner, at in frame.groupby("learner", observed=True).indices.items():
        part, own = frame.iloc[at], list(clusters[at])
        asked = _asked(part)
        fixed = strata([asked[name] for name in part["episode"]], own) if asked else None
        for name, function in _drawn_metrics(part).items():
            found = bootstrap(function, own, strata=fixed, level=level, draws=draws, seed=seed)
            rows.append((learner, name, *found))
        rows += [(learner, name, x, np.nan, np.nan) for name, x in _group_metrics(part).items()]
    return pd.DataFrame(rows, columns=["learner", "metric", "value", "low", "high"])


def draw_of(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return what names each row's draw, see `icl.evaluation.draws`.

    That is the column ``draw``, or what the columns ``task``, ``split``, ``index``, ``setting`` and
    ``item`` tell; without these, each episode is a draw of its own.
    """
    if "draw" in frame:
        return frame["draw"]
    asked = _asked(frame)
    if not asked:
        return frame["episode"]
    return frame["episode"].map(dict(zip(asked, number_draws(asked.values()), strict=True)))


def _drawn_metrics(part: pd.DataFrame) -> dict[str, Callable[[Rows], float]]:
    """Return one learner's metrics as functions of row numbers."""
    from icl.metrics import labels, probabilities
    from icl.metrics import reliability as calibration

    gold = list(zip(part["task"], part["gold"], strict=True))
    predicted = list(zip(part["task"], part["prediction"], strict=True))
    number = {label: n for n, label in enumerate(dict.fromkeys((*gold, *predicted)))}
    truth = np.array([number[label] for label in gold])
    said = np.array([number[label] for label in predicted])

    def of_labels(function: Callable[[list[int], list[int]], float]) -> Callable[[Rows], float]:
        return lambda at: function(said[at].tolist(), truth[at].tolist())

    hard = (labels.accuracy, labels.balanced_accuracy, labels.macro_f1, labels.mcc)
    found = {function.__name__: of_labels(function) for function in hard}
    if {"log_probs", "gold_column"} <= set(part.columns):
        queries = list(zip(part["log_probs"], map(int, part["gold_column"]), strict=True))
        nll = np.array([probabilities.nll([row], [g]) for row, g in queries])
        brier = np.array([probabilities.brier([row], [g]) for row, g in queries])
        sure = np.exp([max(row) for row, _ in queries])
        right = said == truth
        found["nll"] = lambda at: float(nll[at].mean())
        found["brier"] = lambda at: float(brier[at].mean())
        found["ece"] = lambda at: calibration.ece(
            calibration.reliability(sure[at].tolist(), right[at].tolist())
        )
    return found


def _group_metrics(part: pd.DataFrame) -> dict[str, float]:
    """Return one learner's metrics of groups of queries."""
    from icl.metrics import groups

    right = list(part["prediction"] == part["gold"])
    found = {"worst_episode_accuracy": groups.worst(right, list(part["episode"]))[1]}
    if "query_language" in part:
        languages = list(part["query_language"])
        found["worst_language_accuracy"] = groups.worst(right, languages)[1]
        if "support_language" in part:
            with suppress(ValueError):  # no language is judged both within and across
                found["cross_lingual_gap"] = groups.cross_lingual_gap(
                    right, list(part["support_language"]), languages
                )
    return found


def _sample(frame: pd.DataFrame, value: str) -> tuple[list[str], ClusteredSample]:
    """Line the learners' outcomes up by query; learners in the order of appearance."""
    _need(frame, ("learner", "episode", "query", value))
    if frame.duplicated(["learner", "episode", "query"]).any():
        raise IclError(
            "A learner answers the same query of an episode twice; keep one answer, or tell the"
            " two apart in the column 'query'."
        )
    learners = [str(name) for name in frame["learner"].unique()]
    table = frame.pivot(index=["episode", "query"], columns="learner", values=value)
    table = table[frame["learner"].unique()]
    lacking = table.isna().any(axis=1)
    if lacking.any():
        raise IclError(
            f"{int(lacking.sum())} of {len(table)} queries lack the outcome of a learner in the"
            f" column {value!r}; keep the episodes that all learners have done."
        )
    values = table.to_numpy(dtype=np.float64).T
    if not len(table) or not np.all((values >= 0) & (values <= 1)):
        raise IclError(f"The column {value!r} must hold outcomes from 0 to 1, at least one.")
    first = frame.assign(_draw=draw_of(frame).to_numpy())
    first = first.drop_duplicates(["episode", "query"]).set_index(["episode", "query"])
    first = first.loc[table.index]
    numbers, episodes = first["_draw"].tolist(), table.index.get_level_values("episode")
    clusters: list[Sequence[object]] = [numbers]
    if "item" in frame:
        keys = ["task", "item"] if "task" in frame else ["item"]
        clusters.append(list(first[keys].itertuples(index=False, name=None)))
    asked = _asked(frame)
    fixed = strata([asked[name] for name in episodes], numbers) if asked else None
    sizes = table.groupby(level="episode").size()
    weights = [1 / float(sizes[name]) for name in episodes]
    return learners, clustered_sample(values, *clusters, weights=weights, strata=fixed)


def _asked(frame: pd.DataFrame) -> dict[object, Asked]:
    """Return what tells the draw of each episode; empty where the table lacks a column for it."""
    telling = ["task", "split", "index", "setting"]
    if not {*telling, "item"} <= set(frame.columns):
        return {}
    items = frame.groupby("episode", observed=True)["item"].agg(frozenset)
    first = frame.drop_duplicates("episode").set_index("episode")[telling]
    return {
        name: Asked(task, split, index, setting, items[name])
        for name, task, split, index, setting in first.itertuples(name=None)
    }


def _need(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in frame:
            raise IclError(
                f"The table has no column {name!r}." + did_you_mean(name, map(str, frame.columns))
            )
