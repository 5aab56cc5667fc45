"""Is the inner loop stable? Does meta-learning beat multi-task training? How narrow were tasks?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from icl.evaluation.diagnosis.differences import paired
from icl.evaluation.diagnosis.material import Finding, Material, Said, corrected, names, sure
from icl.learners.base import MetaLearner
from icl.learners.registry import known_class
from icl.training.log import read_log

_STABLE = 0.95  # of the steps, the support loss falls in at least so many
_EQUAL = 1.1  # compute within a factor of this counts as equal
_SUPPORT = re.compile(r"support_loss_(\d+)$")


def inner_loop(material: Material) -> Said:
    """Answer by the logs of meta-training: does the support loss fall in the inner loop?"""
    findings: list[Finding] = []
    shaky: list[str] = []
    for name, path in sorted(material.logs.items()):
        lines = read_log(path)
        pairs = [pair for pair in map(_before_and_after, lines) if pair is not None]
        if not pairs:
            continue
        falls = sum(after < before for before, after in pairs) / len(pairs)
        ratio = math.fsum(a / b for b, a in pairs if b > 0) / len(pairs)
        blown = sum(not math.isfinite(float(line.get("loss", 0.0))) for line in lines)
        findings += [
            Finding(name, "outer steps in whose inner loop the support loss falls", falls,
                    unit="share"),
            Finding(name, "support loss after, over before", ratio, unit="ratio"),
            Finding(name, "losses that are not finite", float(blown), unit="count"),
        ]  # fmt: skip
        if falls < _STABLE or blown:
            shaky.append(name)
    if not findings:
        return Said(
            "No learner was meta-trained through an inner loop of gradient steps.",
            lines="learners:\n  maml:\n    method: maml\n    training: {steps: 100}",
        )
    looked = list(dict.fromkeys(f.subject for f in findings))
    said = (
        f"No: {names(shaky)} often takes steps that raise the support loss; lower `inner_rate`."
        if shaky
        else f"Yes: for {names(looked)} the inner loop lowers the support loss in 95 % of steps or"
        " more."
    )
    return Said(said, tuple(findings))


def _before_and_after(line: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the support loss at the first and the last point of an inner loop."""
    steps = {int(m[1]): float(v) for k, v in line.items() if (m := _SUPPORT.match(k))}
    last = line.get("support_loss_after", steps[max(steps)] if len(steps) > 1 else None)
    if not steps or last is None:
        return None
    found = steps[min(steps)], float(last)
    return found if all(map(math.isfinite, found)) else (0.0, math.inf)


def rival(material: Material) -> Said:
    """Answer by meta-trained learners against plain training on all tasks, then adapting to each.

    Each stands against the plain training of its own kind, of a head on embeddings or of an adapter
    under the label words, where the run has it, and always against one on its own model. Compute is
    tokens of training; where texts were embedded before, by another learner of the run, tokens say
    little and the time stands beside them.
    """
    plain = [n for n in material.ranked if _class(material, n).plain]
    meta = [n for n in material.ranked if n in material.meta_training and n not in plain]
    if not plain or not meta:
        return Said(
            "There is no learner by multi-task training beside a meta-trained one."
            if not plain
            else "There is no meta-trained learner beside the one by multi-task training.",
            lines=(
                "learners:\n  multitask-lora:\n    training: {steps: 100, meta_batch: 4}\n"
                "  fomaml:\n    training: {steps: 100, meta_batch: 4}"
            ),
        )
    findings = []
    equal: list[str] = []
    for name in meta:
        kind, model = _class(material, name).trains, _model(material, name)
        own = [n for n in plain if _model(material, n) == model]
        if not own:
            continue
        against = next((n for n in own if _class(material, n).trains == kind), own[0])
        d = paired(material.of(name), material.of(against), material.metric)
        tokens, seconds = (_ratio(material, name, against, of) for of in ("tokens", "seconds"))
        took = [f"{tokens:.2g} × its tokens"] if tokens > 0 else []
        what = f"less {against}; training took {', '.join([*took, f'{seconds:.2g} × its time'])}"
        ratio = tokens if tokens > 0 else seconds
        findings.append(Finding(name, what, d.value, d.low, d.high, d.p))
        if 1 / _EQUAL <= ratio <= _EQUAL:
            equal.append(name)
    if not findings:
        return Said(
            "No meta-trained learner is on the model of the one by multi-task training.",
            lines="learners:\n  multitask:\n    model: encoder  # as the meta-trained one",
        )
    tested = corrected(findings)
    better = [f.subject for f in tested if sure(f) and f.value > 0]
    worse = [f.subject for f in tested if sure(f) and f.value < 0]
    than = f"{names(plain)}, each against its own kind" if len(plain) > 1 else plain[0]
    said = f"Better than {than}: {names(better)}; worse: {names(worse)}. "
    said += (
        f"Compute of training is equal (within 10 %) for {names(equal)}."
        if equal
        else "No meta-trained learner had an equal compute of training, so mind the ratios."
    )
    return Said(said, tested)


def _class(material: Material, name: str) -> type[MetaLearner]:
    """Return a meta-learner's class, as far as its method is known here."""
    found = known_class(str(material.learners.get(name, {}).get("method", "")))
    return found if found is not None and issubclass(found, MetaLearner) else MetaLearner


def _model(material: Material, name: str) -> object:
    """Return what the run calls a learner's model; None where all are on one."""
    return material.learners.get(name, {}).get("model")


def _ratio(material: Material, name: str, other: str, what: str) -> float:
    """Return one meta-training's cost over another's; 0 where the other cost nothing."""
    spent, least = (float(material.meta_training.get(n, {}).get(what, 0)) for n in (name, other))
    return spent / least if least > 0 else 0.0


def breadth(material: Material) -> Said:
    """Answer by learners that differ in the languages of their meta-training alone."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in material.ranked:
        learner = material.learners.get(name, {})
        training = learner.get("training")
        if name in material.meta_training and training and training.get("languages"):
            rest = {k: v for k, v in learner.items() if k != "training"}
            rest["training"] = {k: v for k, v in training.items() if k != "languages"}
            key = json.dumps(rest, sort_keys=True, default=str)
            groups.setdefault(key, []).append((len(training["languages"]), name))
    findings = []
    for group in groups.values():
        group.sort()
        narrow, widest = group[0], group[-1]
        if narrow[0] == widest[0]:
            continue
        for count, name in group[1:]:
            d = paired(material.of(name), material.of(narrow[1]), material.metric)
            what = f"{count} training languages, less {narrow[1]} with {narrow[0]}"
            findings.append(Finding(name, what, d.value, d.low, d.high, d.p))
    if not findings:
        return Said(
            "No two learners differ in the number of their training languages alone.",
            lines=(
                "learners:\n  maml-1:\n    method: maml\n    training: {languages: [en]}\n"
                "  maml-4:\n    method: maml\n    training: {languages: [en, de, ru, hi]}"
            ),
        )
    tested = corrected(findings)
    gained = [f.subject for f in tested if sure(f) and f.value > 0]
    lost = [f.subject for f in tested if sure(f) and f.value < 0]
    said = f"More training languages help {names(gained)} and harm {names(lost)}."
    if not gained and not lost:
        said = "More training languages make no difference that can be told."
    return Said(said, tested)
