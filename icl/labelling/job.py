"""`label_table`: adapt to a labelled table, and label another."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.errors import IclError
from icl.labelling.data import Table, Training, open_table, read_fields, read_training
from icl.labelling.journal import Journal, row_key
from icl.labelling.writing import ENDINGS, write_table
from icl.tasks.sources.cells import label_of
from icl.tools.progress import progress

if TYPE_CHECKING:
    from icl.learners.base import Learner
    from icl.models.base import Model

PREDICTION, PROBABILITY, EACH = "prediction", "probability", "p_"
_TOGETHER = 64  # rows that are labelled, and kept, at once
_DIGITS = 6
_NEARLY_ALL, _ENOUGH, _APART = 0.9, 10, 0.25  # when one label's many rows are told


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a labelling has done.

    Attributes:
        out: the labelled table.
        method: how it was learned.
        examples: labelled rows that were adapted on.
        counts: predicted label -> rows.
        kept: rows that an earlier, stopped labelling had computed already.
        accuracy: the share of rows labelled right, where the new table has labels of its own.
        judged: how many rows that share is of: all with a label of their own.
        unknown: labels of theirs that no labelled row has -> rows; they count as labelled wrong.
    """

    out: Path
    method: str
    examples: int
    counts: Mapping[str, int]
    kept: int
    accuracy: float | None
    judged: int
    unknown: Mapping[str, int]


def label_table(
    train: Path,
    new: Path,
    out: Path,
    *,
    text: Sequence[str] = (),
    label: str | None = None,
    method: str = "in-context",
    params: Mapping[str, Any] | None = None,
    model: str | Model = "packaged:gemma-3-270m",
    trained: Path | None = None,
    learner: str | None = None,
    words: Mapping[str, str] | None = None,
    template: str | None = None,
    instruction: str = "",
    overwrite: bool = False,
) -> Labelled:
    """Adapt a learner to one table's labelled rows and write another with labels.

    The new columns are ``prediction``, its ``probability``, and ``p_<label>`` for every label.
    What is computed is kept as it comes: a labelling that was stopped goes on where it was.

    Args:
        train, new: tables: CSV, TSV, JSON Lines, JSON, Parquet or Arrow.
        out: the table to write; its ending names the format.
        text, label, words, template, instruction: see `icl.labelling.data.read_training`.
        method: a method that needs no meta-training.
        params: the method's own parameters.
        model: a Hub id, a directory, a packaged model, or a loaded `Model`.
        trained: a run's folder; method, parameters, model and trained state are a learner's of
            that run, and `method`, `params` and `model` are not looked at.
        learner: its name there; None: the only one that was meta-trained.
        overwrite: whether `out` may exist.

    Raises:
        IclError: for everything that the user can mend, before anything is computed where it can.
    """
    _check_out(out, (train, new), overwrite)
    training = read_training(
        train, text=text, label=label, words=words, template=template, instruction=instruction
    )
    table = open_table(new)
    fields = read_fields(table, training.columns)
    added = (PREDICTION, PROBABILITY, *(f"{EACH}{name}" for name in training.labels.names))
    taken = next((column for column in table.columns if column in added), None)
    if taken is not None:
        raise IclError(f"{new} has a column {taken!r} already, which is to be written; rename it.")
    made, told, identity = _learner(method, params or {}, model, trained, learner, training)
    from icl.runs.keys import digest

    labels = training.labels
    asked = [labels.names, labels.words, asdict(labels.template)]
    support = [[e.id, dict(e.fields), e.label, e.language] for e in training.support]
    job = digest([told, identity, asked, support])
    journal = Journal(out, job, len(labels))
    keys = [row_key(own) for own in fields]
    kept = sum(key in journal.rows for key in keys)
    rows = _scores(made, training, fields, keys, journal)
    best = [max(range(len(labels)), key=row.__getitem__) for row in rows]
    names = [labels.names[column] for column in best]
    full = []
    for (_, row), name, column, found in zip(table.rows, names, best, rows, strict=True):
        shares = [round(math.exp(value), _DIGITS) for value in found]
        full.append({**row, **dict(zip(added, (name, shares[column], *shares), strict=True))})
    write_table(out, (*table.columns, *added), full)
    journal.close()
    own = own_labels(table, training.label)
    judged = [name == given for name, given in zip(names, own, strict=True) if given]
    counts = Counter(names)
    _warn_of_one_for_all(made.method, counts, training)
    return Labelled(
        out,
        made.method,
        len(training.support),
        dict(counts),
        kept,
        sum(judged) / len(judged) if judged else None,
        len(judged),
        dict(Counter(given for given in own if given and given not in labels.names)),
    )


def _scores(
    learner: Learner,
    training: Training,
    fields: Sequence[Mapping[str, str]],
    keys: Sequence[str],
    journal: Journal,
) -> list[Sequence[float]]:
    """Return the log-probabilities of all rows, those of the journal as they stand in it."""
    from icl.learners.base import checked_scores

    if learner.transductive:  # an answer depends on all rows: there are no parts to keep
        predictor = learner.adapt(training.support, training.labels)
        return [list(row) for row in checked_scores(learner, predictor, fields).tolist()]
    left = {key: own for key, own in zip(keys, fields, strict=True) if key not in journal.rows}
    todo = list(left.items())
    if todo:
        with progress("Labelling") as bar:
            bar.say("adapting")
            predictor = learner.adapt(training.support, training.labels)
            for start in range(0, len(todo), _TOGETHER):
                part = todo[start : start + _TOGETHER]
                bar.say(f"row {start + 1} of {len(todo)}")
                found = checked_scores(learner, predictor, [own for _, own in part])
                journal.add([key for key, _ in part], found.tolist())
                bar.advance(len(part) / len(todo))
    return [journal.rows[key] for key in keys]


def _learner(
    method: str,
    params: Mapping[str, Any],
    model: str | Model,
    trained: Path | None,
    name: str | None,
    training: Training,
) -> tuple[Learner, object, str]:
    """Return a learner, what tells it from others, and its model's identity.

    Raises:
        IclError: labels look alike with its parameters, which is seen before a model loads.
    """
    from icl.learners.registry import is_meta_learner, learner_class, make, validate
    from icl.prompting.verbalisers import check_named
    from icl.runs.keys import method_key

    if trained is not None:
        from icl.exchange.trained import find_learner, load_learner

        found = find_learner(trained, name)
        method, params = found.method, found.params
    complete = validate(method, params)
    check_named(getattr(complete, "words", None), training.labels.names)
    complete.check_task(training.labels, training.support)
    told = [*method_key(method), complete.identity()]
    if trained is not None:
        loaded = load_learner(trained, name)
        return loaded.learner, [*told, loaded.digest], loaded.identity
    if is_meta_learner(method):
        raise IclError(
            f"The method {method!r} must be meta-trained before it labels; run an experiment with"
            " it, and give the run's folder with --from."
        )
    if not learner_class(method).needs(complete):
        return make(method, params, None), told, ""
    if isinstance(model, str):
        from icl.models.loading.own_model import load_model

        model = load_model(model)
    return make(method, params, model), told, model.identity


def _check_out(out: Path, sources: Sequence[Path], overwrite: bool) -> None:
    if out.suffix not in ENDINGS:
        raise IclError(f"--out is {out}; name a file that ends in one of {', '.join(ENDINGS)}.")
    if out.is_dir() or any(out.resolve() == source.resolve() for source in sources):
        raise IclError(f"--out is {out}, which is a directory or is read; name another file.")
    if out.exists() and not overwrite:
        raise IclError(f"{out} exists; name another file with --out, or say --overwrite.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IclError(f"{out.parent} cannot be made: {error.strerror or error}.") from error


def own_labels(table: Table, column: str) -> list[str]:
    """Return each row's own label in a table to be labelled, "" where it has none."""
    found = []
    for _, row in table.rows:
        try:
            found.append(label_of(row, column))
        except IclError:  # the column, or what stands in it, is missing
            found.append("")
    return found


def _warn_of_one_for_all(method: str, counts: Counter[str], training: Training) -> None:
    """Warn where one label takes nearly all rows, and far more than among the labelled ones."""
    [(name, most)], rows = counts.most_common(1), counts.total()
    shown = sum(example.label == name for example in training.support)
    share = shown / len(training.support)
    if rows >= _ENOUGH and most >= _NEARLY_ALL * rows and most / rows - share >= _APART:
        warnings.warn(
            f"The method {method!r} gives {name!r} to {most} of {rows} rows, and {shown} of"
            f" {len(training.support)} labelled rows have it: it may answer so whatever a text"
            " says; try another method, such as --method tfidf, or a calibration (`icl methods"
            " in-context`).",
            stacklevel=3,
        )
