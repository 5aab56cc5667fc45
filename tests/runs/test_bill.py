"""What a learner costs depends neither on who ran before nor on what caches hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, BloomConfig

from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.models.scoring.plain import PlainBackbone
from icl.runs.bill import Bill
from icl.runs.judge import judge
from icl.runs.record import Cost, EpisodeRecord
from tests import tiny, tiny_encoders
from tests.evaluation import small_run

LEARNERS: dict[str, dict[str, Any]] = {
    "prototypes": {},
    "linear-probe": {},
    "lora": {"steps": 2, "top_layers": 1},
    "in-context": {"choice": "knn", "demonstrations": 1},
}


def costs(backbone: Backbone, order: list[str]) -> dict[tuple[str, int], Cost]:
    """Judge learners on two episodes that share texts, in an order."""
    found: dict[tuple[str, int], EpisodeRecord] = {}
    for name in order:
        learner = make(name, LEARNERS[name], backbone)
        for number, episode in enumerate(small_run.episodes(2)):
            found[name, number] = judge(learner, name, name, episode, backbone)
    return {key: record.cost for key, record in found.items()}


def bare(cost: Cost) -> Cost:
    """A cost without what a clock, a memory and a history decide."""
    return replace(cost, seconds=0.0, peak_memory_mb=0.0, shared_seconds=0.0, shared_tokens=0)


@pytest.mark.parametrize("encoder", [False, True])
def test_a_cost_does_not_depend_on_who_ran_before_nor_on_a_store_from_another_run(
    encoder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICL_EMBEDDINGS", str(tmp_path / "store"))
    made = tiny_encoders.encoder() if encoder else tiny.backbone()
    names = [name for name in LEARNERS if not (encoder and name in {"lora", "in-context"})]
    first = costs(made, names)
    again = costs(made, names[::-1])  # all texts are in the store by now
    monkeypatch.setenv("ICL_EMBEDDINGS", str(tmp_path / "fresh"))
    turned = costs(tiny_encoders.encoder() if encoder else tiny.backbone(), names[::-1])
    for key, cost in first.items():
        assert bare(cost) == bare(again[key]) == bare(turned[key])
    assert first["prototypes", 0].shared_tokens == 0 < first["prototypes", 0].computed_tokens
    probe = first["linear-probe", 0]
    assert probe.shared_tokens == probe.computed_tokens == first["prototypes", 0].computed_tokens
    assert 0 < probe.shared_seconds <= probe.seconds
    assert probe.forward_flops == first["prototypes", 0].forward_flops != 0


def test_records_keep_what_was_shared_and_older_ones_are_read_without() -> None:
    episode = small_run.episodes(1)[0]
    made = tiny.backbone()
    record = judge(make("majority", {}, made), "majority", "m", episode, made)
    kept = replace(record, cost=replace(record.cost, shared_tokens=3, shared_seconds=0.5))
    assert EpisodeRecord.from_json(kept.to_json()) == kept
    assert "shared" not in record.to_json()
    assert EpisodeRecord.from_json(record.to_json()).cost.shared_tokens == 0


def test_what_another_model_computes_is_not_said_to_take_no_operations() -> None:
    made = tiny.backbone()
    with Bill(made) as bill:
        made.meter.computed_tokens += 3  # as SetFit does, which runs a model of its own
    cost = bill.cost(0)
    assert cost.computed_tokens == 3
    assert cost.forward_flops is None and cost.backward_flops is None


def test_a_text_costs_a_model_that_is_not_packed_the_same_in_any_company(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4)
    model = AutoModelForCausalLM.from_config(config)
    made = PlainBackbone(model, tiny.tokenizer(), "bloom")
    short, longer = "ab c", "ab cd e"  # which a model that is packed would pad to one length

    def cost(store: str, *texts: str) -> Cost:
        monkeypatch.setenv("ICL_EMBEDDINGS", str(tmp_path / store))
        with Bill(made) as bill:
            Embedder(made).embed(texts)
        return bare(bill.cost(0))

    alone = cost("one", short)
    cost("two", short, longer)
    assert cost("two", short) == alone
