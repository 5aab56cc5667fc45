"""Orders by entropy against the paper's equations, and the drawing of orders."""

from __future__ import annotations

import math
from itertools import permutations

import torch
from hypothesis import given
from hypothesis import strategies as st

from icl.prompting.calibration import domain_inputs
from icl.prompting.demonstrations import Demonstrator
from icl.prompting.format import PlainFormat
from icl.prompting.order import candidates, global_entropy, local_entropy
from icl.prompting.scoring import Scorer
from icl.prompting.seeds import shuffled
from tests import tiny
from tests.learners import problems
from tests.reference import naive_scores

LABELS = problems.labels()


def entropy(shares: list[float]) -> float:
    return -sum(p * math.log(p) for p in shares if p > 0)


@given(st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=1, max_size=6))
def test_entropies_are_the_papers(rows: list[list[float]]) -> None:
    log_probs = torch.tensor(rows, dtype=torch.float64).log_softmax(1)
    counts = [0.0, 0.0, 0.0]
    for row in log_probs.tolist():
        best = [i for i, value in enumerate(row) if value == max(row)]
        for i in best:
            counts[i] += 1 / len(best)
    shares = [count / len(rows) for count in counts]
    assert math.isclose(global_entropy(log_probs), entropy(shares), abs_tol=1e-9)
    local = [entropy([math.exp(value) for value in row]) for row in log_probs.tolist()]
    assert math.isclose(local_entropy(log_probs), sum(local) / len(rows), abs_tol=1e-9)


def test_the_order_with_the_highest_entropy_is_shown() -> None:
    backbone, support = tiny.backbone(), tuple(problems.support(1))
    probes = domain_inputs(support, 0)[:5]
    for by in ("global-entropy", "local-entropy"):
        values = {}
        for order in candidates(support, 4, 0):
            pairs = [(e.fields, e.label) for e in order]
            texts = [LABELS.template.prompt(pairs, probe) for probe in probes]
            found = naive_scores(backbone, texts, [f" {n}" for n in LABELS.names]).log_softmax(1)
            shares = found.argmax(1).bincount(minlength=3).double() / len(probes)
            values[order[0].id, order[1].id] = (
                entropy(shares.tolist())
                if by == "global-entropy"
                else sum(entropy(row.exp().tolist()) for row in found) / len(probes)
            )
        demonstrator = Demonstrator(
            backbone, support, order=by, candidates=4, probes="words", probe_count=5
        )  # fmt: skip
        scorer = Scorer(backbone, LABELS, PlainFormat(LABELS.template))
        ((shown,),) = demonstrator.arrangements([{"text": "x"}], scorer)
        assert values[shown[0].id, shown[1].id] >= max(values.values()) - 1e-4


def test_few_demonstrations_have_all_their_orders_tried() -> None:
    support = problems.support(1)
    found = candidates(support, 24, 0)
    assert {tuple(e.id for e in order) for order in found} == set(
        permutations(e.id for e in support)
    )


def test_random_orders_are_evenly_spread_and_depend_on_ids_alone() -> None:
    support = problems.support(1)
    firsts = [shuffled(support, seed)[0].id for seed in range(600)]
    assert all(140 < firsts.count(e.id) < 260 for e in support)  # 200 each, sd 11.5
    for seed in range(5):
        assert shuffled(support, seed) == shuffled(support[::-1], seed)
