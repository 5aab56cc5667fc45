"""Counted operations are those that torch's own counter sees."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from icl.evaluation.frame import episode_frame
from icl.evaluation.summary import summarise
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.flops import Flops, counted
from icl.models.packed.trunks import TrunkCache
from icl.runs.record import EpisodeRecord
from tests import tiny
from tests.evaluation import small_run
from tests.evaluation.synthetic import record

ARCHITECTURES = ("llama", "gpt2", "gemma3-hybrid")


def _attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(_: Any, q: Any, k: Any, v: Any, *a: Any, out_shape: Any = None) -> int:
    # scores again, and the gradients for shares, values, keys and queries: five products for two
    return sdpa_flop_count(q, k, v) * 5 // 2


def _linear(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def kernels() -> dict[Any, Any]:
    """The kernels that a CPU takes here and the mode does not know."""
    aten, found = torch.ops.aten, {}
    if hasattr(aten, "_scaled_dot_product_flash_attention_for_cpu"):
        found[aten._scaled_dot_product_flash_attention_for_cpu] = _attention
        found[aten._scaled_dot_product_flash_attention_for_cpu_backward] = lambda *a, **k: (
            _attention_backward(*a, out_shape=None)
        )
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        found[torch.ops.mkldnn._linear_pointwise] = _linear
    return found


def backbone(architecture: str) -> Backbone:
    made = tiny.backbone(architecture)
    made.trunks = TrunkCache(0)  # both counts do all the work
    return made


def on_an_episode(made: Backbone, method: str, params: dict[str, Any]) -> None:
    episode = small_run.episodes(1)[0]
    predictor = make(method, params, made).adapt(episode.support, episode.labels)
    predictor.log_probs([example.fields for example in episode.query])


def a_meta_gradient(made: Backbone, method: str, params: dict[str, Any]) -> None:
    learner: Any = make(method, params, made)
    loss, _ = learner.meta_loss([small_run.sampler("train", (1,)).episode(0, 1)])
    torch.autograd.grad(loss, list(learner.trainable_parameters().values()), allow_unused=True)


def both(architecture: str, work: Any, method: str, params: dict[str, Any]) -> tuple[int, Flops]:
    mode = FlopCounterMode(display=False, custom_mapping=kernels())
    with mode:
        work(backbone(architecture), method, params)
    made = backbone(architecture)
    with counted(made) as found:
        work(made, method, params)
    assert found is not None
    return mode.get_total_flops(), found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("params", [{}, {"normalise": "token"}])
def test_forward_passes_are_counted_exactly(architecture: str, params: dict[str, Any]) -> None:
    whole, found = both(architecture, on_an_episode, "in-context", params)
    assert found.forward == pytest.approx(whole, rel=0.01) and found.backward == 0


def test_what_is_counted_within_a_count_is_counted_by_both() -> None:
    made = tiny.backbone()
    with counted(made) as outer, counted(made) as inner:
        on_an_episode(made, "zero-shot", {"normalise": "token"})
    assert outer is not None and inner is not None
    assert outer.forward == inner.forward > 0
    assert "normaliser" not in vars(made)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adaptation_is_counted_forward_and_backward(architecture: str) -> None:
    params = {"steps": 2, "top_layers": 2}
    whole, found = both(architecture, on_an_episode, "lora", params)
    assert found.forward + found.backward == pytest.approx(whole, rel=0.01)
    assert 0 < found.backward < found.forward  # layers under the adapted ones have no backward


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_order_meta_gradients_are_counted_exactly(architecture: str) -> None:
    whole, found = both(architecture, a_meta_gradient, "fomaml", {"inner_steps": 2})
    assert found.forward + found.backward == pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_second_order_meta_gradients_are_counted_nearly(architecture: str) -> None:
    whole, found = both(architecture, a_meta_gradient, "maml", {"inner_steps": 2})
    assert found.forward + found.backward == pytest.approx(whole, rel=0.12)
    _, first_order = both(architecture, a_meta_gradient, "fomaml", {"inner_steps": 2})
    assert found.backward > 1.5 * first_order.backward


def test_counting_leaves_the_model_as_it_was_and_its_answers_too() -> None:
    from transformers import AttentionInterface

    made = backbone("llama")
    name = made.model.config._attn_implementation
    before = AttentionInterface()[name]
    hooks = sum(len(m._forward_hooks) for m in made.model.modules())
    episode = small_run.episodes(1)[0]
    fields = [example.fields for example in episode.query]
    plain = make("in-context", {}, made).adapt(episode.support, episode.labels).log_probs(fields)
    with pytest.raises(RuntimeError, match="a fault"), counted(made):
        learner = make("in-context", {}, made)
        again = learner.adapt(episode.support, episode.labels).log_probs(fields)
        assert torch.equal(plain, again)
        raise RuntimeError("a fault")
    assert AttentionInterface()[name] is before
    assert sum(len(m._forward_hooks) for m in made.model.modules()) == hooks
    assert "normaliser" not in vars(made)


def test_a_model_that_runs_elsewhere_has_no_count() -> None:
    class Elsewhere:
        can = frozenset({"generate"})

        @property
        def model(self) -> None:
            raise AssertionError("a server has no weights to look at")

    with counted(Elsewhere()) as found:  # type: ignore[arg-type]
        assert found is None


def with_flops(record: EpisodeRecord, flops: Flops) -> EpisodeRecord:
    cost = replace(record.cost, forward_flops=flops.forward, backward_flops=flops.backward)
    return replace(record, cost=cost)


def test_records_keep_the_count_and_older_ones_are_read_without() -> None:
    kept = with_flops(record(), Flops(12, 0))
    assert EpisodeRecord.from_json(kept.to_json()) == kept
    old = json.loads(record().to_json()) | {"schema_version": 2}
    del old["check"]
    assert "forward_flops" not in old["cost"]
    assert EpisodeRecord.from_json(json.dumps(old)).cost.backward_flops is None
    table = episode_frame([kept, replace(record(1), learner="lora")])
    assert table["forward_flops"].tolist()[0] == 12 and math.isnan(table["forward_flops"][1])


def test_a_mean_is_known_only_where_all_episodes_are() -> None:
    known = [with_flops(record(i), Flops(10 * i, i)) for i in (1, 2)]
    assert summarise(known).overall.rows[0].forward_flops == 15
    assert summarise([*known, record(3)]).overall.rows[0].forward_flops is None
