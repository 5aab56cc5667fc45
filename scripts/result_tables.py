"""The tables of one run's block: accuracies, what meta-training gains, and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icl.errors import IclError
from icl.evaluation.board import Board, Row
from icl.evaluation.grid import Grid, grid
from icl.evaluation.summary import Summary, summarise
from icl.reporting.effort import chosen
from icl.reporting.numbers import count, duration, p_value, percent, points
from icl.reporting.verdict import DAGGER
from icl.runs.finished import FinishedRun
from icl.runs.trials import Tuning

SHUFFLED = "+shuffled-labels"
BY_LOT = "labels by lot"


@dataclass(frozen=True, slots=True)
class Control:
    """Accuracies on the episodes whose labels were dealt by lot.

    Attributes:
        chance: what guessing evenly scores there.
        cells: by learner, its accuracy with half its interval's width, in percent.
    """

    chance: float
    cells: dict[str, str]


class Tables:
    """What a run's block shows, each table as lines of Markdown.

    Args:
        run: with its records.
        pairs: learners to be compared besides, the first less the second.
    """

    def __init__(self, run: FinishedRun, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self.summary: Summary = summarise(run.records, run.meta_training, models=run.models)
        self._grid = grid(run.records).where(metric=self.summary.metric)
        for name in (name for pair in pairs for name in pair):
            if name not in self.summary.learners:
                raise IclError(
                    f"--pairs names {name!r}, which {run.folder} has not;"
                    f" it has {', '.join(self.summary.learners)}."
                )
        self._tuning = run.tuning
        self._pairs = pairs
        boards = self.summary.boards
        self._boards = [b for b in boards if not str(b.setting).endswith(SHUFFLED)] or [*boards]

    def accuracies(self) -> list[str]:
        """Return accuracies by setting and shots, over all episodes, and with labels by lot."""
        summary, control = self.summary, self._control()
        heads = ["learner", *(["model"] if summary.models else [])]
        heads += [place(board) for board in self._boards]
        heads += ["all", "to best, points", "p"]
        heads += [] if control is None else [f"{BY_LOT} (chance {percent(control.chance)})"]
        rows = []
        for row in summary.overall.rows:
            best = row is summary.overall.best
            cells = [row.learner + f" {DAGGER}" * (row.learner in summary.transductive)]
            cells += [row.model or "–"] if summary.models else []
            cells += [cell(board.row(row.learner)) for board in self._boards]
            cells += [
                f"{100 * row.accuracy:.1f} ({100 * row.low:.1f}–{100 * row.high:.1f})",
                "best" if best else difference(row),
                "" if best else p_value(row.p),
            ]
            cells += [] if control is None else [control.cells[row.learner]]
            rows.append(cells)
        return table(heads, rows)

    def costs(self) -> list[str]:
        """Return what each learner took, of meta-training and tuning what they took once."""
        summary, tuning = self.summary, self._tuning
        heads = ["learner", "time an episode", "tokens"]
        heads += ["meta-training"] if summary.meta_training else []
        heads += ["its trials"] if tuning else []
        rows = []
        for row in summary.overall.rows:
            cells = [row.learner, duration(row.seconds), count(row.computed_tokens)]
            if summary.meta_training:
                spent = summary.meta_training.get(row.learner)
                told = "" if spent is None else f"{duration(spent.seconds)}, {spent.steps} steps"
                cells.append(told)
            if tuning:
                trials = tuning.learners[row.learner].trials
                cells.append(f"{len(trials)}, {duration(sum(t.seconds for t in trials))}")
            rows.append(cells)
        return table(heads, rows)

    def differences(self) -> list[str]:
        """Return the best meta-trained learner less the best other one, and the pairs asked for.

        For each setting and number of shots; empty where there is nothing to compare.
        """
        trained = set(self.summary.meta_training)
        rows = []
        for board in self._boards:
            part = self._grid.where(setting=board.setting, shots=board.shots)
            best = [
                next((r.learner for r in board.rows if (r.learner in trained) is own), None)
                for own in (True, False)
            ]
            if best[0] and best[1]:
                rows.append(self._compared(part, board, best[0], best[1], best=True))
            rows += [self._compared(part, board, a, b) for a, b in self._pairs]
        heads = ["episodes", "learner", "less", "points", "p, Holm over all pairs"]
        return table(heads, rows) if rows else []

    def _compared(
        self, part: Grid, board: Board, first: str, second: str, best: bool = False
    ) -> list[str]:
        from icl.evaluation.statistics import holm_pairs

        differences = part.scores(self.summary.metric).differences()
        i, j = part.learners.index(first), part.learners.index(second)
        gap, p = differences.of(i, j), float(holm_pairs(differences.p)[i, j])
        ends = f"{points(gap.low)} to {points(gap.high)}"
        if best:
            first, second = f"{first} (best meta-trained)", f"{second} (best of the others)"
        return [place(board), first, second, f"{points(gap.value)} ({ends})", p_value(p)]

    def _control(self) -> Control | None:
        rows = tuple(row for row in self._grid.episodes if row[0].setting.endswith(SHUFFLED))
        if not rows:
            return None
        part, metric = Grid(self._grid.learners, rows, {}), self.summary.metric
        means = part.scores(metric).means()
        cells = {
            name: f"{100 * means.mean[i]:.1f} ±{50 * (means.high[i] - means.low[i]):.1f}"
            for i, name in enumerate(part.learners)
        }
        return Control(part.chance(metric), cells)


def chosen_values(tuning: Tuning) -> str:
    """Say in one line what tuning has chosen, learners that stay as they were together."""
    changed, same, nothing = [], [], []
    for name, own in tuning.learners.items():
        if not own.search:
            nothing.append(name)
        elif own.changes:
            changed.append(f"{name} `{chosen(own)}`")
        else:
            same.append(name)
    parts = [f"Chosen: {'; '.join(changed)}"] if changed else ["Chosen: nothing but what was given"]
    parts += [f"as configured: {', '.join(same)}"] if same and changed else []
    parts += [f"nothing to search: {', '.join(nothing)}"] if nothing else []
    return "; ".join(parts) + "."


def place(board: Board) -> str:
    """Name a board's episodes in the head of a column."""
    return f"{board.setting}, {board.shots} shot{'s' * (board.shots != 1)}"


def cell(row: Row) -> str:
    """Return an accuracy in percent with half its interval's width."""
    return f"{100 * row.accuracy:.1f} ±{50 * (row.high - row.low):.1f}"


def difference(row: Row) -> str:
    """Return a difference to the best with its interval, in points."""
    ends = f"{points(row.difference_low)} to {points(row.difference_high)}"
    return f"{points(row.difference)} ({ends})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
