"""`report.html`: one self-contained page, no script, no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl.evaluation.summary import Summary, summarise
from icl.reporting import numbers
from icl.reporting.boards import FILES, PAIRS, pair_table, table
from icl.reporting.diagnosis_terminal import finding_cells
from icl.reporting.effort import EFFORT_HEADS, effort, effort_rows, trial_rows
from icl.reporting.html import fill, write_whole
from icl.reporting.palette import DARK, LIGHT, styles
from icl.reporting.plots import Plot, accuracy_by_cost, accuracy_by_shots, reliability
from icl.reporting.svg import drawing, inline_svg
from icl.reporting.verdict import SIGNIFICANT, models_told, notes, verdict
from icl.reporting.worst import Find, shown
from icl.runs.record import EpisodeRecord
from icl.runs.used_models import UsedModel

if TYPE_CHECKING:
    from markupsafe import Markup

    from icl.evaluation.diagnosis import Answer
    from icl.runs.trials import Tuning

REPORT = "report.html"


def write_report(
    folder: Path,
    records: Iterable[EpisodeRecord],
    *,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    meta_training: Mapping[str, Mapping[str, float]],
    models: Mapping[str, UsedModel] | None = None,
    command: str,
    episodes: Find | None = None,
    answers: Sequence[Answer] = (),
    tuning: Tuning | None = None,
) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    Beside it lie its boards for other programs, ``table.csv``, ``table.md`` and ``table.tex``, and
    all pairs of learners with every test, ``pairs.csv``. The same arguments give the same bytes.
    Each file appears whole or not at all.

    Args:
        folder: the run's.
        records: of the run.
        config, environment: shown as they are.
        meta_training: seconds, tokens and steps by learner.
        models: by learner, the model that it was on.
        command: what reproduces the run.
        episodes: finds an episode by its fingerprint, so that the worst ones' prompts can be shown.
        answers: those of `icl.evaluation.diagnosis`.
        tuning: how the learners' values were chosen; None where they ran as configured.

    Raises:
        IclError: there is nothing to compare, or a file cannot be written.
    """
    path = Path(folder) / REPORT
    summary = summarise(records, meta_training, models=models)
    page = fill(
        "report.html.j2",
        _FILTERS,
        title=path.absolute().parent.name,
        worst=shown(summary, episodes),
        answers=answers,
        command=command,
        config=_as_yaml(config),
        environment=_as_yaml(environment),
        effort=effort(tuning),
        effort_heads=EFFORT_HEADS,
        effort_rows=[] if tuning is None else effort_rows(tuning),
        trial_rows=[] if tuning is None else trial_rows(tuning),
        **_parts(summary),
    )
    write_whole(path, page)
    for form, name in FILES.items():
        write_whole(path.with_name(name), table(summary, form))
    write_whole(path.with_name(PAIRS), pair_table(summary.pairs, "csv"))
    return path


_FILTERS = (
    numbers.percent, numbers.span, numbers.points, numbers.p_value, numbers.duration, numbers.count,
    numbers.nats, numbers.metric_name, numbers.metric_title,
)  # fmt: skip


def _parts(summary: Summary) -> dict[str, Any]:
    """Return what the page's template shows of a summary, by name."""
    looks, overall = styles(summary.learners), summary.overall
    return {
        "board_title": numbers.board_title,
        "finding_cells": finding_cells,
        "verdict": verdict(summary),
        "notes": notes(summary),
        "summary": summary,
        "models_told": models_told(summary),
        "boards": summary.boards if len(summary.boards) > 1 else (),
        "facts": _facts(summary),
        "styles": looks,
        "ranked": [row.learner for row in overall.rows],
        "significant": SIGNIFICANT,
        "colours": list(zip(LIGHT, DARK, strict=True)),
        "shots": {
            setting: _inline(f"s{i}", accuracy_by_shots, summary, setting, looks)
            for i, setting in enumerate(summary.settings)
        },
        "costs": [
            _inline(f"c{i}", accuracy_by_cost, overall, cost, looks)
            for i, cost in enumerate(("seconds", "computed_tokens"))
        ],
        "has_flops": any(row.forward_flops is not None for row in overall.rows),
        "has_shared": any(row.shared for row in overall.rows),
        "shade": partial(_shade, overall.chance),
        "reliability": {
            name: _inline(f"r{i}", reliability, found, looks[name])
            for i, (name, found) in enumerate(summary.calibration.items())
        },
    }


def _inline(prefix: str, draw: Callable[..., Plot], *arguments: Any) -> Markup:
    """Draw a plot into the page; matplotlib and `inline_svg` escape its texts."""
    from markupsafe import Markup

    with drawing():
        plot = draw(*arguments)
        return Markup(inline_svg(plot.figure, prefix, plot.label))


def _shade(chance: float, accuracy: float) -> float:
    """Return how dark a cell of a heat map is, from 0 (chance or less) to 1."""
    return max(0.0, (accuracy - chance) / (1 - chance)) if chance < 1 else 0.0


def _facts(summary: Summary) -> list[tuple[str, str]]:
    board = summary.overall
    shots = sorted({b.shots for b in summary.boards if b.shots is not None})
    chance = [("chance", numbers.percent(board.chance))] if board.chance else []
    return [
        ("learners", str(len(summary.learners))),
        ("episodes, the same for all", str(board.episodes)),
        *([("draws behind them", str(board.draws))] if board.draws != board.episodes else []),
        ("queries", str(board.queries)),
        ("query languages", str(len({line.language for line in summary.languages}))),
        ("shots", ", ".join(map(str, shots))),
        *chance,
    ]


def _as_yaml(data: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(data, default=str))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=1000).strip()
