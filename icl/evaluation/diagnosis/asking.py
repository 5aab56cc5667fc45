"""How sensitive is it to order, template and label words?"""

from __future__ import annotations

import json
from itertools import combinations

from icl.evaluation.diagnosis.differences import paired
from icl.evaluation.diagnosis.material import Finding, Material, Said, corrected, names, sure

# parameters that say how a model is asked, and nothing of what it learns from
_ASKING = frozenset(
    {"template", "templates", "input", "target", "separator", "instruction", "words", "order",
     "seed", "choice", "demonstrations", "diversity", "chat", "assistant_prefix", "calibration",
     "chat_template_kwargs", "normalise", "scoring", "domain_prompt"}
)  # fmt: skip


def asking(material: Material) -> Said:
    """Answer by learners that differ only in how they ask, all pairs of them corrected for."""
    groups: dict[str, list[str]] = {}
    for name in material.ranked:
        learner = dict(material.learners.get(name, {}))
        if "order" in learner or "template" in learner:
            rest = {k: v for k, v in sorted(learner.items()) if k not in _ASKING}
            groups.setdefault(json.dumps(rest, default=str), []).append(name)
    findings: list[Finding] = []
    for group in groups.values():
        if len(group) < 2:
            continue
        found = {
            (a, b): paired(material.of(a), material.of(b), material.metric)
            for a, b in combinations(group, 2)
        }
        tested = corrected(
            Finding(f"{a} less {b}", _differing(material, (a, b)), d.value, d.low, d.high, d.p)
            for (a, b), d in found.items()
        )
        # the best of the group against each, the widest gap first
        of_best = [f for f in tested if f.subject.startswith(f"{group[0]} less ")]
        findings += sorted(of_best, key=lambda f: -abs(f.value))
    if not findings:
        return Said(
            "No two learners differ only in how they ask.",
            lines=(
                "learners:\n  in-context: {}\n  other-order:\n    method: in-context\n"
                "    order: random\n    seed: 1\n"
                "# or a grid of prompts: icl prompts prompt_study"
            ),
        )
    widest = max(findings, key=lambda f: abs(f.value))
    parted = [f for f in findings if sure(f)]
    said = f"Ways of asking lie up to {100 * abs(widest.value):.1f} points apart ({widest.subject})"
    said += (
        f"; clearly apart: {names(f.subject for f in parted)}."
        if parted
        else ", which may be luck."
    )
    return Said(said, tuple(findings))


def _differing(material: Material, pair: tuple[str, str]) -> str:
    a, b = (material.learners[name] for name in pair)
    fields = sorted(k for k in _ASKING & (a.keys() | b.keys()) if a.get(k) != b.get(k))
    return f"differ in {names(fields)}"
