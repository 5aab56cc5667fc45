from __future__ import annotations

import pytest
import torch

from icl.errors import IclError
from icl.models.adapters.lora import Adapter
from icl.models.backbone import Backbone
from icl.models.scoring.generate import generate
from tests import tiny

SHARED = "Word: January\nKind: month\n\n"
PROMPTS = [
    SHARED + "Word: Montag\nKind:",
    SHARED + "Word: 月曜日 and something longer\nKind:",
    SHARED,  # a prefix of the others
    "Text: the cat",
    SHARED + "Word: Montag\nKind:",  # the same again
]


@pytest.fixture(scope="module", params=sorted(tiny.CONFIGS))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return tiny.backbone(request.param)


def theirs(backbone: Backbone, prompt: str, tokens: int) -> str:
    """Greedy continuation by transformers, one prompt alone."""
    ids = torch.tensor([backbone.tokenizer(prompt)["input_ids"]])
    out = backbone.model.generate(
        input_ids=ids,
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=backbone.tokenizer.eos_token_id,
        pad_token_id=backbone.tokenizer.pad_token_id,
    )
    return str(backbone.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def test_greedy_continuations_equal_transformers_own(backbone: Backbone) -> None:
    ours = generate(backbone, PROMPTS, max_new_tokens=12)
    assert [t for (t,) in ours] == [theirs(backbone, p, 12) for p in PROMPTS]


def test_shared_prefixes_are_computed_once(backbone: Backbone) -> None:
    before = backbone.meter.computed_tokens
    generate(backbone, PROMPTS, max_new_tokens=1)
    encoded = [tuple(backbone.tokenizer(p)["input_ids"]) for p in PROMPTS]
    unique = {row[: n + 1] for row in encoded for n in range(len(row))}
    assert backbone.meter.computed_tokens - before == len(unique)


def test_a_continuation_ends_at_a_stop_string_which_is_cut_off() -> None:
    backbone = tiny.backbone()
    (whole,) = generate(backbone, PROMPTS[:1], max_new_tokens=12)[0]
    stop = whole[4:6]
    assert generate(backbone, PROMPTS[:1], max_new_tokens=12, stop=[stop, "never there"]) == [
        [whole[: whole.index(stop)]]
    ]


def test_samples_do_not_depend_on_the_batch_and_repeat_by_seed() -> None:
    backbone = tiny.backbone("gemma3-hybrid")

    def draw(prompts: list[str], seed: int) -> list[list[str]]:
        return generate(backbone, prompts, max_new_tokens=8, samples=3, temperature=1.0, seed=seed)

    together = draw(PROMPTS, 0)
    assert together == [draw([p], 0)[0] for p in PROMPTS]
    assert together != draw(PROMPTS, 1)
    assert len(set(together[0])) > 1
    assert together[0] == together[4]  # the same prompt


def test_sampling_follows_the_models_probabilities() -> None:
    backbone = tiny.backbone()
    ids = torch.tensor([backbone.tokenizer(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        shares = (backbone.model(ids).logits[0, -1] / 0.5).softmax(-1)
    drawn = generate(backbone, PROMPTS[:1], max_new_tokens=1, samples=2000, temperature=0.5)[0]
    for token in shares.topk(3).indices.tolist():
        text = backbone.tokenizer.decode([token], skip_special_tokens=True)
        same = [
            float(shares[t])
            for t in range(len(shares))
            if backbone.tokenizer.decode([t], skip_special_tokens=True) == text
        ]
        expected = sum(same)
        assert (
            abs(drawn.count(text) / 2000 - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5
        )


def test_an_adapter_changes_what_is_generated_as_it_changes_the_model() -> None:
    backbone = tiny.backbone()
    layer = f"{backbone.layer_names[0]}.self_attn.q_proj"
    torch.manual_seed(1)
    adapter = Adapter(
        {f"{layer}.lora_A": torch.randn(2, 32), f"{layer}.lora_B": torch.randn(32, 2)}, 1.0
    )
    adapted = generate(backbone, PROMPTS, max_new_tokens=8, adapter=adapter)
    weight = backbone.model.get_submodule(layer).weight
    added = adapter.factors[f"{layer}.lora_B"] @ adapter.factors[f"{layer}.lora_A"]
    assert adapted != generate(backbone, PROMPTS, max_new_tokens=8)
    weight.data += added
    try:
        assert adapted == generate(backbone, PROMPTS, max_new_tokens=8)
    finally:
        weight.data -= added


def test_memory_bounds_the_batch_and_changes_nothing() -> None:
    backbone = tiny.backbone()
    free = generate(backbone, PROMPTS, max_new_tokens=5)
    backbone.memory_budget = 1  # each prompt alone
    assert generate(backbone, PROMPTS, max_new_tokens=5) == free


def test_several_greedy_samples_are_refused() -> None:
    with pytest.raises(IclError, match="temperature above 0"):
        generate(tiny.backbone(), PROMPTS, max_new_tokens=1, samples=2)


def test_nothing_to_do() -> None:
    assert generate(tiny.backbone(), [], max_new_tokens=3) == []
    assert generate(tiny.backbone(), ["a"], max_new_tokens=0) == [[""]]
