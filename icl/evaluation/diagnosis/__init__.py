"""The questions that the field argues about, answered from a run's records where they can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.evaluation.diagnosis.asking import asking
from icl.evaluation.diagnosis.label_use import labels, memory
from icl.evaluation.diagnosis.material import Answer, Finding, Material, Said
from icl.evaluation.diagnosis.saturation import saturation, sources
from icl.evaluation.diagnosis.training import breadth, inner_loop, rival
from icl.evaluation.grid import grid
from icl.runs.finished import FinishedRun
from icl.runs.record import EpisodeRecord

__all__ = ["Answer", "Finding", "diagnose", "diagnose_run"]

_QUESTIONS: Mapping[str, tuple[str, Callable[[Material], Said]]] = {
    "labels": ("Does it use the labels of its examples?", labels),
    "memory": ("Does it know its training tasks by heart?", memory),
    "asking": ("How sensitive is it to order, template and label words?", asking),
    "multi-task": (
        "Does meta-learning beat multi-task training then fine-tuning at equal compute?",
        rival,
    ),
    "breadth": ("How narrow was the task distribution?", breadth),
    "sources": ("Which language helps which?", sources),
    "saturation": ("Where does accuracy saturate with shots?", saturation),
    "inner-loop": ("Is the inner loop stable?", inner_loop),
}


def diagnose(
    records: Iterable[EpisodeRecord],
    *,
    learners: Mapping[str, Mapping[str, Any]] | None = None,
    meta_training: Mapping[str, Mapping[str, float]] | None = None,
    logs: Mapping[str, Path] | None = None,
    others: Sequence[EpisodeRecord] = (),
) -> tuple[Answer, ...]:
    """Ask every question of some records; what cannot be answered says what it would take.

    Differences are of means over episodes with 95 % intervals; p-values are Holm-corrected over the
    findings of one answer.

    Args:
        records: of a run.
        learners: by name, its configuration: ``method``, parameters, ``training``.
        meta_training: by name, for those that were meta-trained: seconds, tokens, steps.
        logs: by name, the ``log.jsonl`` of a meta-training.
        others: records of the same learners on further episodes, e.g. of the training split.

    Raises:
        IclError: nothing can be compared.
    """
    everything = grid(records)
    metric = everything.metrics[0]
    material = Material(
        whole=everything.where(metric=metric),
        metric=metric,
        learners=learners or {},
        meta_training=meta_training or {},
        logs=logs or {},
        others=others,
    )
    if not material.plain:
        return (
            Answer(
                "plain",
                "How does it do with plain labels?",
                "All episodes have changed labels, so there is nothing to compare them with.",
                lines="episodes:\n  variants: [plain, shuffled-labels]",
            ),
        )
    return tuple(
        Answer(name, question, *ask(material)) for name, (question, ask) in _QUESTIONS.items()
    )


def diagnose_run(run: FinishedRun, beside: Sequence[FinishedRun] = ()) -> tuple[Answer, ...]:
    """Ask every question of a run's folder.

    Args:
        run: the run.
        beside: runs of the same learners on other episodes.

    Raises:
        IclError: as `diagnose`, or a learner of a run beside it is another under the same name.
    """
    keys = {record.learner: record.learner_key for record in run.records}
    others = []
    for other in beside:
        for record in other.records:
            if keys.get(record.learner, record.learner_key) != record.learner_key:
                raise IclError(
                    f"{record.learner!r} in {other.folder} is not the learner of that name in"
                    f" {run.folder}: parameters, model, training or code differ."
                )
            others.append(record)
    return diagnose(
        run.records,
        learners=run.learners,
        meta_training=run.meta_training,
        logs=run.logs,
        others=others,
    )
