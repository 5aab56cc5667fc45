"""Where does accuracy saturate with shots? Which language helps which?"""

from __future__ import annotations

from itertools import pairwise

from icl.evaluation.diagnosis.differences import paired, same_queries, unpaired
from icl.evaluation.diagnosis.material import Finding, Material, Said, corrected, names, sure
from icl.evaluation.draws import draws
from icl.metrics.curves import area_under_shots
from icl.runs.record import EpisodeRecord

_ENOUGH = 5  # draws on either side of what is tested unpaired


def saturation(material: Material) -> Said:
    """Answer by each step of shots, on the same queries, support sets nested."""
    shots, rows_of = _nested(material)
    if len(shots) < 2:
        return Said(
            "There is one number of shots, or no query was answered at several.",
            lines="episodes:\n  shots: [0, 1, 2, 4, 8]",
        )
    steps: list[Finding] = []
    curves: list[Finding] = []
    for name in material.ranked:
        i = material.whole.learners.index(name)
        at = {k: [rows[k][i] for rows in rows_of] for k in shots}
        means = {k: _mean(at[k], material.metric) for k in shots}
        area = area_under_shots(means)
        curves.append(Finding(name, "area under the curve, by log shots", area, unit="share"))
        for few, many in pairwise(shots):
            d = paired(at[many], at[few], material.metric)
            examples = (many - few) * _ways(at[many])
            each = f", {100 * d.value / examples:+.2f} points an example" if examples else ""
            what = f"{few} to {many} shots{each}"
            steps.append(Finding(name, what, d.value, d.low, d.high, d.p))
    tested = corrected(steps)
    last = len(shots) - 1
    helped = [f.subject for f in tested[last - 1 :: last] if sure(f) and f.value > 0]
    said = f"The last step, {shots[-2]} to {shots[-1]} shots, still helps {names(helped)}."
    if not helped:
        said = (
            f"The last step, {shots[-2]} to {shots[-1]} shots, helps nobody that can be told:"
            f" {_until(tested, last, shots)}."
        )
    return Said(said, (*tested, *curves))


def _until(tested: tuple[Finding, ...], steps: int, shots: list[int]) -> str:
    """Say up to which number of shots some learner gains."""
    useful = [i % steps for i, f in enumerate(tested) if sure(f) and f.value > 0]
    if not useful:
        return "no step helps anybody clearly"
    return f"gains end at {shots[max(useful) + 1]} shots"


def _nested(material: Material) -> tuple[list[int], list[dict[int, tuple[EpisodeRecord, ...]]]]:
    """Return the numbers of shots, and the queries that were asked at all of them."""
    by_queries: dict[tuple[object, ...], dict[int, tuple[EpisodeRecord, ...]]] = {}
    for row in material.plain:
        by_queries.setdefault(same_queries(row[0]), {})[row[0].shots] = row
    shots = sorted({k for rows in by_queries.values() if len(rows) > 1 for k in rows})
    return shots, [rows for rows in by_queries.values() if len(rows) == len(shots)]


def _ways(records: list[EpisodeRecord]) -> float:
    return sum(max(r.ways, 1) for r in records) / len(records)


def _mean(records: list[EpisodeRecord], metric: str) -> float:
    return sum(sum(r.outcomes(metric)) / len(r.query_ids) for r in records) / len(records)


def sources(material: Material) -> Said:
    """Answer, for the best learner, by each target language: other sources against its own.

    The episodes are others, so these differences are not paired.
    """
    best = material.ranked[0]
    cells: dict[str, dict[str, list[EpisodeRecord]]] = {}
    for record in material.of(best):
        if record.shots:
            to = cells.setdefault(record.query_language, {})
            to.setdefault(record.support_language, []).append(record)
    findings, best_of = [], {}
    for target, by_source in sorted(cells.items()):
        away = {s: r for s, r in by_source.items() if s != target}
        if not away:
            continue
        best_of[target] = max(sorted(away), key=lambda s: _mean(away[s], material.metric))
        for source, records in sorted(away.items()):
            own = by_source.get(target, [])
            if min(len(set(draws(side))) for side in (records, own)) >= _ENOUGH:
                d = unpaired([records], [own], material.metric)
                what = f"{target} from {source}, less from {target} itself"
                findings.append(Finding(best, what, d.value, d.low, d.high, d.p))
            else:
                what = f"{target} from {source}" + (", too few episodes to test" if own else "")
                share = _mean(records, material.metric)
                findings.append(Finding(best, what, share, unit="share"))
    if not findings:
        return Said(
            "No examples are in another language than the queries.",
            lines=(
                "episodes:\n  settings:\n    - {name: within}\n"
                "    - {name: from-english, support_language: en}\n"
                "    - {name: from-german, support_language: de}"
            ),
        )
    tested = corrected(findings)
    sides = sorted(set(best_of.values()))
    if any(len(to.keys() - {target}) > 1 for target, to in cells.items()):
        parts = [f"{s} for {names(t for t in best_of if best_of[t] == s)}" for s in sides]
        said = f"For {best}, the best other language is {'; '.join(parts)}"
    else:
        said = f"{best} was shown examples in {names(sides)} for {names(best_of)}"
    if any(f.p is not None for f in tested):
        worse = [f.what.split(" ", 1)[0] for f in tested if sure(f) and f.value < 0]
        better = [f.what.split(" ", 1)[0] for f in tested if sure(f) and f.value > 0]
        said += (
            f"; the queries' own language is clearly better for {names(worse)}"
            if worse
            else "; the queries' own language is not clearly better for any"
        ) + (f", worse for {names(better)}" if better else "")
    return Said(said + ".", tested)
