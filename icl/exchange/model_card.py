"""The model card of an exported adapter: what it is, what it learned from, and how it did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from icl.errors import IclError
from icl.exchange.card_figures import figures
from icl.exchange.card_use import Exported, title, use
from icl.exchange.trained import Found
from icl.models.packaged.origins import WeightOrigin, origin_of
from icl.reporting.numbers import markdown
from icl.tasks.definitions.extends import find_definition, read_definition
from icl.version import __version__

_ADDRESS = re.compile(r"https?://[^\s<>\[\]()]+")


def model_card(run: Path, found: Found, exported: Exported) -> str:
    """Write a card as the Hub reads it: YAML, then Markdown. The figures are the run's own.

    Args:
        run: the run's folder.
        found: the learner, see `icl.exchange.trained.find_learner`.
        exported: what of it is in the card's directory.

    Raises:
        IclError: the run's records are damaged.
    """
    family = found.config.tasks.family if found.config.tasks else ""
    base, on_hub = base_name(found.base.name)
    origin = origin_of(found.base.name)
    hub = base if on_hub else "" if origin is None else origin.hub
    head: dict[str, Any] = {
        "library_name": "sentence-transformers" if exported.sentence else "peft",
        **({"base_model": hub} if hub else {}),  # the Hub takes ids of its own only
        "tags": ["icl", *_TAGS[exported.sentence], "few-shot", "meta-learning", found.method],
    }
    told = hub if on_hub else "<the base model>"
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        title(exported, found.name, base),
        _what(found, exported),
        "" if origin is None else _rounding(found.base.name, origin),
        "## Use",
        *use(exported, told),
        "## Data",
        _bullets(_data(family) if family else {}),
        "## Training",
        _bullets(_training(found)),
        "Parameters: " + ", ".join(f"`{k}` {markdown(str(v))}" for k, v in found.params.items()),
        "## Results",
        figures(run, found),
        "## Limits",
        "The figures hold for the episodes above: these tasks, languages, ways and shots, this base"
        " model. Nothing was tried on other uses. The licences of the base model and of the data"
        " hold for this model too; look them up before you share it.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_TAGS = {True: ("sentence-transformers", "feature-extraction"), False: ("lora",)}


def _what(found: Found, exported: Exported) -> str:
    trained = (
        f"that the method `{found.method}` has meta-trained on few-shot episodes with icl"
        f" {__version__}."
    )
    if exported.head:
        return (
            f"Vectors of texts {trained} A new task needs a few examples of each label, and no"
            " further training of the model."
        )
    return (
        f"A LoRA adapter {trained} It is a start: adapt it to a task with a few examples, by"
        " the inner loop in `icl_meta_learning.json`, or use it as it is."
    )


def _rounding(name: str, origin: WeightOrigin) -> str:
    """Say which weights these are."""
    if not origin.rounded:
        return f"The base is [{origin.hub}](https://huggingface.co/{origin.hub})."
    return (
        f"The base is `{name}` of icl: the weights of"
        f" [{origin.hub}](https://huggingface.co/{origin.hub}) ({origin.licence}), rounded to about"
        " 4 bits and back. The weights on the Hub are not these: what was trained here fits them"
        " nearly, and the figures below were not measured with them."
    )


def _training(found: Found) -> dict[str, Any]:
    training = found.config.learners[found.name].complete().training
    if training is None:
        return {}
    spent = found.summary or {}
    config = found.config
    return {
        "split": training.split,
        "episodes": f"{training.steps} steps of {training.meta_batch},"
        f" {training.ways or config.episodes.ways} ways, {training.shots} shots,"
        f" {training.queries} queries",
        "support language": training.support_language or "that of the queries",
        "query languages": ", ".join(training.languages or _languages(found, training.split))
        or "all of the split",
        "languages of the figures": ", ".join(
            config.episodes.languages or _languages(found, config.episodes.split)
        ),
        "seed": config.seed,
        "weights of the base": " in ".join(filter(None, (found.base.dtype, found.base.quantise))),
        "seconds": f"{spent['seconds']:.0f}" if "seconds" in spent else "",
        "tokens": f"{spent['computed_tokens']:,}" if "computed_tokens" in spent else "",
    }


def _languages(found: Found, split: str) -> tuple[str, ...]:
    """Return the languages of a split, where the family's definition is at hand and lists them."""
    if found.config.tasks is None:
        return ()
    try:
        definition = read_definition(find_definition(found.config.tasks.family))
    except IclError:
        return ()
    return tuple(definition.splits[split].languages or ()) if split in definition.splits else ()


def base_name(name: str) -> tuple[str, bool]:
    """Return what to call the base model, and whether it is the Hub's.

    Of a directory its own name alone is told: where it lies concerns nobody else.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() or name.startswith((".", "/", "~")):
        return folder.resolve().name, False
    return name, ":" not in name


def _data(family: str) -> dict[str, Any]:
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


def _bullets(facts: Mapping[str, Any]) -> str:
    return "\n".join(
        f"- {name}: {value if _ADDRESS.fullmatch(str(value)) else markdown(str(value))}"
        for name, value in facts.items()
        if value not in ("", None)
    )
