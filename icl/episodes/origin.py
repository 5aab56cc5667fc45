"""Where an episode set comes from: the sampler's arguments and the data's hash, as JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from icl.episodes.composition import Composition
from icl.episodes.reading import in_order
from icl.episodes.sampler import EpisodeSampler
from icl.episodes.setting import Setting
from icl.tasks.kinds.registry import said
from icl.tasks.loaded import TaskFamily


def sampler_arguments(sampler: EpisodeSampler) -> dict[str, Any]:
    """Return a sampler's arguments but for the family, all that `sampler_from` needs."""
    return {
        "split": sampler.split,
        "ways": sampler.ways,
        "shots": list(sampler.shots),
        "queries": sampler.queries,
        "setting": asdict(sampler.setting),
        "tasks": list(sampler.tasks),
        "languages": list(sampler.languages),
        "composition": asdict(sampler.composition),
        "pool": sampler.pool,
        "near": sampler.near,
        "seed": sampler.seed,
    }


def sampler_from(family: TaskFamily, arguments: Mapping[str, Any]) -> EpisodeSampler:
    """Build the sampler that `sampler_arguments` was asked about."""
    rest = {k: v for k, v in arguments.items() if k not in ("split", "setting", "composition")}
    return EpisodeSampler(
        family,
        arguments["split"],
        setting=Setting(**arguments["setting"]),
        composition=Composition(**arguments["composition"]),
        **rest,
    )


def data_hash(sampler: EpisodeSampler) -> str:
    """Hash everything that a sampler may show: 64 hexadecimal digits of SHA-256.

    Covers the tasks' labels, words and templates and the fields of every example that may be
    drawn, in their order.
    """
    digest = hashlib.sha256()
    for pool in sampler.pools():
        task = pool.task
        words = {name: task.words[name] for name in task.labels if name in task.words}
        told = said(task.kind)
        told["name"] = told["name"].rpartition(":")[2]  # its code is said, wherever it lies
        told.pop("metrics", None)  # which judge answers and decide nothing that is shown
        kind = told if len(told) > 1 else told["name"]
        head = [task.name, task.language, kind, task.labels, words, asdict(task.template)]
        digest.update(_line(head))
        for example in in_order(task.examples, pool.rows.tolist()):
            fields = dict(example.fields)
            digest.update(_line([example.id, example.parallel_id, example.label, fields]))
    return digest.hexdigest()


def _line(values: list[Any]) -> bytes:
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"
