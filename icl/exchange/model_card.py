"""The model card of an exported adapter: what it is, what it learned from, and how it did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from icl.errors import IclError
from icl.evaluation.board import Board, Row
from icl.evaluation.summary import summarise
from icl.exchange.trained import Found
from icl.reporting.numbers import markdown
from icl.runs.roster import read_roster
from icl.runs.used_models import used_models
from icl.version import __version__

_ADDRESS = re.compile(r"https?://[^\s<>\[\]()]+")


def model_card(run: Path, found: Found) -> str:
    """Write a card as the Hub reads it: YAML, then Markdown. The figures are the run's own.

    Args:
        run: the run's folder.
        found: the learner, see `icl.exchange.trained.find_learner`.

    Raises:
        IclError: the run's records are damaged.
    """
    config = found.config
    complete = config.learners[found.name].complete()
    data = _data(config.tasks.family) if config.tasks else {}
    model = config.model_of(found.name)
    base, on_hub = base_name(model.name)
    head: dict[str, Any] = {
        "library_name": "peft",
        **({"base_model": base} if on_hub else {}),  # the Hub takes ids of its own only
        "tags": ["icl", "lora", "few-shot", "meta-learning", found.method],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {markdown(found.name)}: a meta-learned start for {markdown(base)}",
        f"A LoRA adapter that the method `{found.method}` has meta-trained on few-shot episodes"
        f" with icl {__version__}. It is a start: adapt it to a task with a few examples, by"
        " the inner loop in `icl_meta_learning.json`, or use it as it is.",
        "## Use",
        "```python\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({base if on_hub else '<the base model>'!r})\n"
        'model = PeftModel.from_pretrained(base, "<this directory or repository>")\n'
        "```",
        "## Data",
        _bullets(data),
        "## Training",
    ]
    if complete.training is not None:
        training = complete.training
        spent = found.summary or {}
        parts.append(
            _bullets(
                {
                    "split": training.split,
                    "episodes": f"{training.steps} steps of {training.meta_batch},"
                    f" {training.ways or config.episodes.ways} ways, {training.shots} shots,"
                    f" {training.queries} queries",
                    "support language": training.support_language or "that of the queries",
                    "query languages": ", ".join(training.languages or ()) or "all of the split",
                    "seed": config.seed,
                    "weights of the base": " in ".join(filter(None, (model.dtype, model.quantise))),
                    "seconds": f"{spent['seconds']:.0f}" if "seconds" in spent else "",
                }
            )
        )
    said = (f"`{k}` {markdown(str(v))}" for k, v in found.params.items())
    parts.append("Parameters: " + ", ".join(said))
    parts += ["## Results", _results(run, found)]
    parts += [
        "## Limits",
        "The figures hold for the episodes above: these tasks, languages, ways and shots, this base"
        " model. Nothing was tried on other uses. The licences of the base model and of the data"
        " hold for this adapter too; look them up before you share it.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def base_name(name: str) -> tuple[str, bool]:
    """Return what to call the base model, and whether it is the Hub's.

    Of a directory its own name alone is told: where it lies concerns nobody else.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() or name.startswith((".", "/", "~")):
        return folder.resolve().name, False
    return name, ":" not in name


def _data(family: str) -> dict[str, Any]:
    from icl.tasks.definitions.extends import find_definition, read_definition

    try:
        definition = read_definition(find_definition(family))
    except IclError:  # the definition has gone, or lies on another machine
        return {"tasks": Path(family).stem}
    return {
        "tasks": f"{definition.name}: {' '.join(definition.description.split())}",
        "licence": definition.licence,
        "source": definition.url,
        "citation": " ".join((definition.citation or "").split()),
    }


def _results(run: Path, found: Found) -> str:
    from icl.runs.folder import RunFolder

    folder = RunFolder(run)
    rows = read_roster(folder)
    keys = {row["name"]: row["key"] for row in rows if row["key"]}
    records = folder.records(keys, list(folder.episodes().fingerprints()))
    if found.name not in {record.learner for record in records}:
        return "The run has judged it on no episode."
    summary = summarise(records, models=used_models(rows, {}))
    boards = summary.boards if len(summary.boards) > 1 else (summary.overall,)
    return "\n".join(
        [
            f"{summary.metric.capitalize()} on episodes of the split"
            f" `{found.config.episodes.split}`, mean and 95 % interval, clustered by draw and item;"
            " all learners were judged on the same episodes.\n",
            "| setting | shots | episodes | chance | this adapter | best other |",
            "| --- | --- | --- | --- | --- | --- |",
            *(_row(board, found.name) for board in boards),
        ]
    )


def _row(board: Board, name: str) -> str:
    own = board.row(name)
    others = [row for row in board.rows if row.learner != name]
    best = f"{_figure(others[0])} ({markdown(_called(others[0]))})" if others else "–"
    setting = markdown(board.setting or "all")
    shots = "all" if board.shots is None else board.shots
    chance = f"{100 * board.chance:.1f} %"
    return f"| {setting} | {shots} | {board.episodes} | {chance} | {_figure(own)} | {best} |"


def _called(row: Row) -> str:
    return f"{row.learner} on {row.model}" if row.model else row.learner


def _figure(row: Row) -> str:
    return f"{100 * row.accuracy:.1f} % ({100 * row.low:.1f}–{100 * row.high:.1f})"


def _bullets(facts: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {name}: {value if _ADDRESS.fullmatch(str(value)) else markdown(str(value))}"
        for name, value in facts.items()
        if value not in ("", None)
    )
