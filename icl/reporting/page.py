"""`report.html`: one self-contained page, no script, no network."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.evaluation.record import ACCURACY, EpisodeRecord
from icl.evaluation.summary import LanguageAccuracy, Summary, summarise
from icl.reporting import formats
from icl.reporting.palette import DARK, LIGHT, styles
from icl.reporting.plots import accuracy_by_cost, accuracy_by_shots, reliability
from icl.reporting.tables import FILES, table
from icl.reporting.terminal import board_title
from icl.reporting.verdict import SIGNIFICANT, notes, verdict


def write_report(
    folder: Path,
    records: Iterable[EpisodeRecord],
    *,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    meta_training: Mapping[str, Mapping[str, float]],
    command: str,
) -> Path:
    """Write ``report.html`` into the run's folder and return its path.

    Beside it lie its boards for other programs: ``table.csv``, ``table.md`` and ``table.tex``. The
    same arguments give the same bytes. Each file appears whole or not at all. `config` and
    `environment` are shown as they are; `meta_training` holds seconds, tokens and steps by learner;
    `command` is what reproduces the run. Raises `IclError` where there is nothing to compare or
    a file cannot be written.
    """
    path = Path(folder) / "report.html"
    summary = summarise(records, meta_training)
    page = render(
        summary,
        title=path.absolute().parent.name,
        config=config,
        environment=environment,
        command=command,
    )
    _write(path, page)
    for form, name in FILES.items():
        _write(path.with_name(name), table(summary, form))
    return path


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise IclError(f"Cannot write {path}: {error.strerror or error}.") from error


def render(
    summary: Summary,
    *,
    title: str,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    command: str,
) -> str:
    """Return the page as HTML; everything that comes from the user is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    looks = styles(summary.learners)
    jinja = Environment(
        loader=PackageLoader("icl.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        formats.percent,
        formats.span,
        formats.points,
        formats.p_value,
        formats.duration,
        formats.count,
        formats.nats,
        formats.metric_name,
        formats.metric_title,
    ):
        jinja.filters[function.__name__] = function
    jinja.globals["board_title"] = board_title
    page = jinja.get_template("report.html.j2").render(
        title=title,
        verdict=verdict(summary),
        notes=notes(summary),
        summary=summary,
        boards=summary.boards if len(summary.boards) > 1 else (),
        facts=_facts(summary),
        styles=looks,
        ranked=[row.learner for row in summary.overall.rows],
        significant=SIGNIFICANT,
        colours=list(zip(LIGHT, DARK, strict=True)),
        # The plots hold no text of the user's, so they are safe as they are.
        shots={
            setting: Markup(accuracy_by_shots(summary, setting, looks, f"s{i}"))
            for i, setting in enumerate(summary.settings)
        },
        costs=[
            Markup(accuracy_by_cost(summary.overall, "seconds", looks, "c0")),
            Markup(accuracy_by_cost(summary.overall, "computed_tokens", looks, "c1")),
        ],
        heat_maps=_heat_maps(summary),
        reliability={
            name: Markup(reliability(found, looks[name], f"r{i}"))
            for i, (name, found) in enumerate(summary.calibration.items())
        },
        command=command,
        config=_as_yaml(config),
        environment=_as_yaml(environment),
    )
    return page.strip() + "\n"


@dataclass(frozen=True, slots=True)
class _Line:
    language: LanguageAccuracy
    cells: tuple[tuple[float, float], ...]  # accuracy, shade from 0 (chance or less) to 1


def _heat_maps(summary: Summary) -> dict[str, list[_Line]]:
    """Lay out accuracies by setting and language, learners in the order of the leader board."""
    maps: dict[str, list[_Line]] = {setting: [] for setting in summary.settings}
    chance = summary.overall.chance
    for line in summary.languages:
        accuracies = [line.accuracy[row.learner] for row in summary.overall.rows]
        shades = [max(0.0, (a - chance) / (1 - chance)) if chance < 1 else 0.0 for a in accuracies]
        maps[line.setting].append(_Line(line, tuple(zip(accuracies, shades, strict=True))))
    return maps


def _facts(summary: Summary) -> list[tuple[str, str]]:
    board = summary.overall
    shots = sorted({b.shots for b in summary.boards if b.shots is not None})
    chance = [("chance", formats.percent(board.chance))] if board.metric == ACCURACY else []
    return [
        ("learners", str(len(summary.learners))),
        ("episodes, the same for all", str(board.episodes)),
        ("queries", str(board.queries)),
        ("query languages", str(len({line.language for line in summary.languages}))),
        ("shots", ", ".join(map(str, shots))),
        *chance,
    ]


def _as_yaml(data: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(data, default=str))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=1000).strip()
