"""Does it use the labels? Does it memorise tasks?"""

from __future__ import annotations

from icl.episodes.variants import without_variant
from icl.evaluation.diagnosis.differences import paired, same_queries, unpaired
from icl.evaluation.diagnosis.material import Finding, Material, Said, corrected, names, sure
from icl.runs.record import EpisodeRecord

_VARIANTS = ("shuffled-labels", "flipped-labels", "abstract-labels")
SHUFFLED = "shuffled-labels"


def labels(material: Material) -> Said:
    """Answer by the same episodes with shuffled, flipped or abstract labels against plain ones."""
    findings = corrected(_variant_findings(material))
    if not findings:
        return Said(
            "There are no episodes with changed labels beside the same ones with plain labels.",
            lines=f"episodes:\n  variants: [plain, {', '.join(_VARIANTS)}]",
        )
    lost = [f.subject for f in findings if sure(f) and f.value < 0]
    kept = [name for name in material.ranked if name not in lost]
    said = f"Changed labels make {names(lost)} worse" if lost else "Changed labels harm nobody"
    if kept:
        said += f"; {names(kept)} {'loses' if len(kept) == 1 else 'lose'} nothing that can be told"
    return Said(said + ".", findings)


def _variant_findings(material: Material, only: str | None = None) -> list[Finding]:
    plain = {(same_queries(row[0]), row[0].shots): row for row in material.plain if row[0].shots}
    pairs: dict[str, list[tuple[tuple[EpisodeRecord, ...], tuple[EpisodeRecord, ...]]]] = {}
    for row in material.whole.episodes:
        first = row[0]
        variant = first.setting[len(without_variant(first.setting)) + 1 :]
        other = plain.get((same_queries(first), first.shots))
        if other is not None and variant in ((only,) if only else _VARIANTS):
            pairs.setdefault(variant, []).append((row, other))
    found = []
    for variant in _VARIANTS:
        for name in material.ranked if variant in pairs else ():
            i = material.whole.learners.index(name)
            d = paired(
                [changed[i] for changed, _ in pairs[variant]],
                [same[i] for _, same in pairs[variant]],
                material.metric,
            )
            what = f"{variant.replace('-', ' ')} less plain"
            found.append(Finding(name, what, d.value, d.low, d.high, d.p))
    return found


def memory(material: Material) -> Said:
    """Answer by shuffled labels, and by held-in against held-out tasks where two splits are there.

    A meta-learner that knows its tasks by heart labels queries right whatever the examples say (Yin
    et al. 2020, "Meta-learning without memorization"), and is better on tasks it was trained on
    than their difficulty explains: its lead over the best learner that was not meta-trained is
    larger there.
    """
    trained = [name for name in material.ranked if name in material.meta_training]
    reference = next((n for n in material.ranked if n not in material.meta_training), None)
    lines = (
        f"episodes:\n  variants: [plain, {SHUFFLED}]\n"
        "# and a second run with the training tasks, for icl diagnose RUN --beside RUN2:\n"
        "#   episodes:\n#     split: train"
    )
    if not trained:
        return Said("No learner was meta-trained.", lines=lines)
    shuffled = [f for f in _variant_findings(material, SHUFFLED) if f.subject in trained]
    held = [] if reference is None else _held_in(material, trained, reference)
    findings = corrected([*shuffled, *held])
    if not findings:
        return Said(
            "There are neither shuffled labels nor episodes of the training tasks.",
            lines=lines,
        )
    said = []
    if shuffled:
        blind = [f.subject for f in findings[: len(shuffled)] if not (sure(f) and f.value < 0)]
        said.append(
            f"Shuffled labels do not clearly harm {names(blind)}: known by heart, or not learned."
            if blind
            else "Shuffled labels harm every meta-trained learner, so none goes by heart alone."
        )
    if held:
        heart = [f.subject for f in findings[len(shuffled) :] if sure(f) and f.value > 0]
        said.append(
            f"On training tasks {names(heart)} leads by more than their difficulty explains."
            if heart
            else "No meta-trained learner's lead is clearly larger on its training tasks."
        )
    return Said(" ".join(said), findings)


def _held_in(material: Material, trained: list[str], reference: str) -> list[Finding]:
    """Compare leads over the reference on the training split and on another."""
    records: dict[str, dict[str, dict[str, EpisodeRecord]]] = {}
    own = [r for row in material.plain for r in row]
    for record in (*own, *material.others):
        if not record.changed and material.metric in record.metrics:
            split = records.setdefault(record.split, {})
            split.setdefault(record.fingerprint, {})[record.learner] = record
    found = []
    for name in trained:
        configured = material.learners.get(name, {}).get("training") or {}
        home = str(configured.get("split", "train"))
        sides = []
        for inside in (True, False):
            rows = [
                (row[name], row[reference])
                for split, by_episode in sorted(records.items())
                for row in by_episode.values()
                if (split == home) is inside and name in row and reference in row
            ]
            sides.append([[a for a, _ in rows], [b for _, b in rows]])
        if all(side[0] for side in sides):
            d = unpaired(sides[0], sides[1], material.metric)
            what = f"lead over {reference} on training tasks, less on others"
            found.append(Finding(name, what, d.value, d.low, d.high, d.p))
    return found
