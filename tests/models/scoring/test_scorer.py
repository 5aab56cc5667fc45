from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.errors import IclError
from icl.models.backbone import Backbone
from icl.models.loading.self_check import check_packing
from icl.models.packed import blocks
from icl.models.packed.layout import lay_out
from icl.models.packed.trie import pack
from icl.models.scoring.scorer import make_plan, score
from tests import tiny
from tests.reference import naive_scores

PREFIX = "Word: May\nKind: month\n\nWord: Montag\nKind: weekday\n\n"
PROMPTS = [
    PREFIX + "Word: Juni\nKind:",
    PREFIX + "Word: 月曜日\nKind:",
    PREFIX + "Word: Sunday or a much longer word\nKind:",
    "Kind:",
]
ANSWERS = [" month", " weekday", " organ", " organism", " organ ic"]


@pytest.fixture(scope="module", params=sorted(tiny.CONFIGS))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return tiny.backbone(request.param)


def scores(backbone: Backbone, prompts: list[str], answers: list[str]) -> torch.Tensor:
    with torch.no_grad():
        return score(backbone, make_plan(backbone, prompts, answers))


def test_packed_scores_equal_the_naive_scorer(backbone: Backbone) -> None:
    reference = naive_scores(backbone, PROMPTS, ANSWERS)
    assert reference.std() > 0.1  # the model tells answers apart, so equality says something
    torch.testing.assert_close(scores(backbone, PROMPTS, ANSWERS), reference, atol=1e-4, rtol=0)


def test_scores_do_not_depend_on_batch_composition(backbone: Backbone) -> None:
    together = scores(backbone, PROMPTS, ANSWERS)
    alone = torch.cat([scores(backbone, [prompt], ANSWERS) for prompt in PROMPTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    shuffled = scores(backbone, PROMPTS[::-1], ANSWERS[::-1]).flip(0, 1)
    torch.testing.assert_close(together, shuffled, atol=1e-5, rtol=0)


def test_relative_scores_are_right_up_to_a_constant_a_prompt(backbone: Backbone) -> None:
    plan = make_plan(backbone, PROMPTS, ANSWERS)
    with torch.no_grad():
        exact, relative = score(backbone, plan), score(backbone, plan, relative=True)
    torch.testing.assert_close(exact.log_softmax(1), relative.log_softmax(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("band", [1, 3, 8])
def test_cutting_hidden_keys_away_changes_nothing(
    backbone: Backbone, band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scores(backbone, PROMPTS, ANSWERS)
    monkeypatch.setattr(blocks, "_BAND", band)
    torch.testing.assert_close(scores(backbone, PROMPTS, ANSWERS), whole, atol=1e-5, rtol=0)


def test_the_fused_kernel_equals_the_plain_one_in_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = tiny.backbone("gemma3-hybrid")  # windows: the fused kernel takes masks
    backbone.model.to(torch.bfloat16)
    fused = scores(backbone, PROMPTS, ANSWERS)
    monkeypatch.setattr(blocks, "can_fuse", lambda *_: False)
    plain = scores(backbone, PROMPTS, ANSWERS)
    assert not torch.equal(fused, plain)  # two kernels did run
    torch.testing.assert_close(fused, plain, atol=0.3, rtol=0)


def test_keys_outside_a_window_are_not_computed() -> None:
    tokens = np.arange(40)
    long = pack([np.concatenate([tokens, np.array([50, 51, 52])]), np.append(tokens, [60, 61])])
    (below,) = [block for block in lay_out(long).blocks if not block.causal]
    assert below.reachable(0, below.queries.shape[1], 8) == (33, 40)  # 40 sees 33 to 40
    assert below.reachable(0, below.queries.shape[1], None) == (0, 40)
    own = max(lay_out(long).blocks, key=lambda block: block.keys.shape[1])
    assert any(
        block.causal and block.reachable(16, 24, 8) == (9, 24)
        for block in lay_out(long).blocks
        if block.keys.shape[1] == own.keys.shape[1]
    )


def test_each_unique_token_is_computed_once(backbone: Backbone) -> None:
    plan = make_plan(backbone, PROMPTS, ANSWERS)
    before = backbone.meter.computed_tokens
    with torch.no_grad():
        score(backbone, plan)
    assert backbone.meter.computed_tokens - before == len(plan.trie.tokens) < plan.prompt_tokens / 4


def test_a_second_call_gives_the_same_bits(backbone: Backbone) -> None:
    assert torch.equal(scores(backbone, PROMPTS, ANSWERS), scores(backbone, PROMPTS, ANSWERS))


def test_a_trunk_gives_the_same_scores_as_the_whole_model(backbone: Backbone) -> None:
    plan = make_plan(backbone, PROMPTS, ANSWERS)
    with torch.no_grad():
        whole = score(backbone, plan)
        for start in range(1, 3):
            trunk = backbone.trunk(plan.layout, start)
            assert torch.equal(whole, score(backbone, plan, trunk=trunk, start=start))


def test_the_plain_model_still_works_beside_packing(backbone: Backbone) -> None:
    plain = tiny.model(backbone.name.removeprefix("tiny-"), "eager").eval()
    ids = torch.tensor([tiny.tokenizer()("Word: May\nKind:")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.model(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5
        )


def test_tokens_across_the_boundary_are_scored_from_the_first_that_differs() -> None:
    backbone, encode = tiny.backbone(), tiny.tokenizer()
    text, spanning = "Word: January\nKind: month", 0
    for cut in range(1, len(text)):
        alone, whole = encode(text[:cut])["input_ids"], encode(text)["input_ids"]
        shared = 0
        while shared < len(alone) and alone[shared] == whole[shared]:
            shared += 1
        spanning += shared < len(alone)
        plan = make_plan(backbone, [text[:cut]], [text[cut:]])
        assert plan.target.tolist() == whole[shared:]
    assert spanning  # some cuts do fall inside a token


def test_an_empty_prompt_is_conditioned_on_bos() -> None:
    backbone = tiny.backbone()
    assert make_plan(backbone, [""], ["month"]).layout.tokens[0, 0] == 0


def test_an_empty_label_word_is_refused_in_one_sentence() -> None:
    with pytest.raises(IclError, match="adds no token"):
        make_plan(tiny.backbone(), ["Kind:"], [""])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(max_size=12), min_size=1, max_size=4),
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True),
)
def test_any_text_scores_as_the_naive_scorer_says(prompts: list[str], answers: list[str]) -> None:
    backbone = tiny.backbone("gemma3-hybrid")
    torch.testing.assert_close(
        scores(backbone, prompts, answers),
        naive_scores(backbone, prompts, answers),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("architecture", sorted(tiny.CONFIGS))
def test_the_load_time_check_passes_for_exact_architectures(architecture: str) -> None:
    check_packing(tiny.backbone(architecture))


@pytest.mark.parametrize("architecture", ["llama", "gemma3-hybrid"])
def test_the_load_time_check_passes_in_half_precision(architecture: str) -> None:
    backbone = tiny.backbone(architecture)
    backbone.model.to(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    check_packing(backbone)
    after = backbone.model.state_dict()
    assert all(after[k].dtype == v.dtype and torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_load_time_check_refuses_an_attention_that_is_not_packed(dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM, BloomConfig

    config = BloomConfig(vocab_size=320, hidden_size=32, n_layer=2, n_head=4)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with pytest.raises(IclError, match=r"packed|standard attention"):
        check_packing(Backbone(model.to(dtype), tiny.tokenizer(), "alibi"))
