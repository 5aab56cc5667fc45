"""`Comparison`: what some learners did on the same episodes, as tables and as text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.evaluation.board import Row
from icl.evaluation.summary import Summary, summarise
from icl.reporting.alarm_lines import alarm_lines
from icl.reporting.page import REPORT
from icl.runs.finished import FinishedRun
from icl.runs.record import EpisodeRecord
from icl.runs.trials import Tuning
from icl.runs.used_models import UsedModel

if TYPE_CHECKING:
    from pandas import DataFrame

_WIDTH = 100


@dataclass(frozen=True)
class Comparison:
    """Learners on identical episodes. Printed, it is the leader board.

    Attributes:
        records: one for each learner and episode.
        meta_training: by learner, for those that were meta-trained: seconds, tokens, steps.
        report: the HTML page, where there is one.
        models: by learner, the model that it was on; those that need none are left out.
        tuning: how the learners' values were chosen; None where they ran as configured.
    """

    records: tuple[EpisodeRecord, ...]
    meta_training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    report: Path | None = None
    models: Mapping[str, UsedModel] = field(default_factory=dict)
    tuning: Tuning | None = None

    @classmethod
    def of(cls, run: FinishedRun) -> Comparison:
        """Return what a run's folder holds."""
        page = run.folder / REPORT
        shown = page if page.is_file() else None
        return cls(run.records, run.meta_training, shown, run.models, run.tuning)

    @cached_property
    def summary(self) -> Summary:
        """All figures, typed; raises `IclError` where no episode was done by every learner."""
        return summarise(self.records, self.meta_training, models=self.models)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Floors that are not beaten and learners of one answer, a line each (`Alarms`)."""
        return tuple(alarm_lines(self.summary.alarms))

    def frame(self) -> DataFrame:
        """Return the leader board: a row a learner, the best first, over all episodes.

        Shares are between 0 and 1, times in seconds, memory in MiB; see
        `icl.evaluation.summary.Row` for the columns; ``model`` is there where there are several,
        ``control`` where the run has shuffled labels.
        """
        import pandas as pd

        return pd.DataFrame([self._cells(row) for row in self.summary.overall.rows])

    def curves(self) -> DataFrame:
        """Return a row for each setting, number of shots and learner, with `frame`'s columns."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"setting": board.setting, "shots": board.shots, **self._cells(row)}
                for board in self.summary.boards
                for row in board.rows
            ]
        )

    def _cells(self, row: Row) -> dict[str, Any]:
        cells = asdict(row)
        absent = {"model": not self.summary.models, "control": not self.summary.overall.controlled}
        for name in (name for name, missing in absent.items() if missing):
            del cells[name]
        return cells

    def episodes(self) -> DataFrame:
        """Return a row for each learner and episode: figures and costs; see `episode_frame`."""
        from icl.evaluation.frame import episode_frame

        return episode_frame(self.records)

    def queries(self) -> DataFrame:
        """Return a row for each learner and query: what was right, what was answered.

        The columns are those of `icl.evaluation.frame.query_frame`.
        """
        from icl.evaluation.frame import query_frame

        return query_frame(self.records)

    def __str__(self) -> str:
        from rich.console import Console

        from icl.reporting import print_table

        text = io.StringIO()
        console = Console(file=text, width=_WIDTH)
        print_table(self.records, console, self.meta_training, self.models, self.tuning)
        return text.getvalue().rstrip()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """Show the leader board in a notebook."""
        return str(self.frame().to_html(index=False))
