"""What the questions are asked of, and what an answer looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from icl.evaluation.grid import Grid
from icl.evaluation.statistics import holm
from icl.runs.record import EpisodeRecord

SIGNIFICANT = 0.05

Unit = Literal["points", "share", "ratio", "count"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of an answer.

    Attributes:
        subject: a learner, or learners.
        what: what the figure is.
        value: in the unit; differences of shares are in ``points``, kept as shares.
        low, high: its 95 % interval, where it has one.
        p: of no difference, Holm-corrected over the answer's findings; None where not tested.
        unit: how it is shown.
    """

    subject: str
    what: str
    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    unit: Unit = "points"


class Said(NamedTuple):
    """What a run says to a question.

    Attributes:
        said: one sentence; why there is no answer, where there is none.
        findings: the figures behind it; empty where there is no answer.
        lines: where there is no answer, what to put into the experiment's file to get one.
    """

    said: str
    findings: tuple[Finding, ...] = ()
    lines: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question that the field argues about, and what a run says to it.

    Attributes:
        name: a short name of the question.
        question: in full.
        said, findings, lines: see `Said`.
    """

    name: str
    question: str
    said: str
    findings: tuple[Finding, ...] = ()
    lines: str = ""

    @property
    def answered(self) -> bool:
        """Whether the run can say something."""
        return bool(self.findings)


@dataclass(frozen=True)
class Material:
    """A run, as the questions look at it.

    Attributes:
        whole: its records, of one metric.
        metric: that metric.
        learners: by name, the configuration of each learner.
        meta_training: by name, for those that were meta-trained: seconds, tokens, steps.
        logs: by name, where the log of a meta-training lies.
        others: records of the same learners in other runs.
    """

    whole: Grid
    metric: str
    learners: Mapping[str, Mapping[str, Any]]
    meta_training: Mapping[str, Mapping[str, float]]
    logs: Mapping[str, Path]
    others: Sequence[EpisodeRecord] = ()

    @cached_property
    def plain(self) -> tuple[tuple[EpisodeRecord, ...], ...]:
        """The episodes whose labels nobody has changed, a record of each learner."""
        return tuple(row for row in self.whole.episodes if not row[0].changed)

    def of(self, learner: str) -> list[EpisodeRecord]:
        """Return a learner's records of plain episodes."""
        column = self.whole.learners.index(learner)
        return [row[column] for row in self.plain]

    @cached_property
    def ranked(self) -> tuple[str, ...]:
        """The learners by their mean over plain episodes, the best first."""

        def mean(name: str) -> float:
            scores = [r.outcomes(self.metric) for r in self.of(name)]
            return sum(sum(s) / len(s) for s in scores) / max(len(scores), 1)

        return tuple(sorted(self.whole.learners, key=lambda name: -mean(name)))


def corrected(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Correct the p-values of some findings for their number (Holm)."""
    found = list(findings)
    tested = [i for i, finding in enumerate(found) if finding.p is not None]
    for i, p in zip(tested, holm([found[i].p or 0.0 for i in tested]), strict=True):
        found[i] = replace(found[i], p=float(p))
    return tuple(found)


def sure(finding: Finding) -> bool:
    """Tell whether a finding is no luck."""
    return finding.p is not None and finding.p < SIGNIFICANT


def names(subjects: Iterable[str], most: int = 4) -> str:
    """Join names for a sentence, each once.

    >>> names(["a", "b", "c"]), names("abcdef"), names([])
    ('a, b and c', 'a, b, c and 3 more', 'none')
    """
    found = list(dict.fromkeys(subjects))
    if len(found) > most:
        found = [*found[: most - 1], f"{len(found) - most + 1} more"]
    if not found:
        return "none"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
