"""Where positions depend on a text's length, each text is read as it would be read alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, ModernBertConfig

from icl.models.adapters.lora import Adapter, LoraSpec, init_lora
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.models.encoder import Encoder, check_encoder, register
from icl.models.packed.rope import pack_for
from icl.models.scoring import waves
from icl.models.scoring.generate import generate
from icl.models.scoring.plain import PlainBackbone
from icl.models.scoring.reference import naive_scores
from icl.models.scoring.scorer import label_scores, make_task_plan, score
from icl.models.tokens import encode, encode_pairs
from tests import tiny

DEMONSTRATIONS = "Word: May\nKind: month\n\nWord: Montag\nKind: weekday\n\n"
PROMPTS = [
    "Word: May\nKind:",
    DEMONSTRATIONS + "Word: Sunday\nKind:",
    "Word: May\nKind: month\n\nWord: x",  # labels of both lengths, on either side of the switch
    "Word: May\nKind: month\n\nWord: or",
    DEMONSTRATIONS * 2 + "Word: Juni\nKind:",
    "Word: May\nKind: month\n\nWord: or!!!!!!",
]
ANSWERS = [" month", " weekday", " organism or not", "."]
NAMES = sorted(tiny.BY_LENGTH)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def alone(name: str) -> torch.Tensor:
    """Score each sequence by the plain model, just made: no pass has gone before."""
    return torch.tensor(
        [[float(naive_scores(_untouched(name), [p], [a])[0, 0]) for a in ANSWERS] for p in PROMPTS]
    )


def plain(name: str) -> PlainBackbone:
    return PlainBackbone(tiny.model(name, "sdpa"), tiny.tokenizer(), f"plain-{name}")


def _untouched(name: str) -> Backbone:
    backbone = tiny.backbone(name)
    backbone.model = tiny.model(name, "sdpa").eval()
    return backbone


def test_scores_equal_those_of_each_sequence_alone_in_a_model_just_loaded(name: str) -> None:
    backbone, expected = tiny.backbone(name), alone(name)
    lengths = [
        [len(pair.tokens) for pair in row]
        for row in encode_pairs(backbone.tokenizer, PROMPTS, ANSWERS)
    ]
    assert any(min(row) <= 18 < max(row) for row in lengths)
    assert expected.std() > 0.5
    for found in (
        label_scores(backbone, PROMPTS, ANSWERS),
        label_scores(backbone, PROMPTS[::-1], ANSWERS).flip(0),
        plain(name).score(PROMPTS, ANSWERS),
        naive_scores(backbone, PROMPTS, ANSWERS),
    ):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_no_road_lets_company_decide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves, tasks with adapters and trunks that are found again: all as each prompt alone."""
    backbone = tiny.backbone(name)
    targets = ("qkv_proj",) if name.startswith("phi3") else ("q_proj",)
    factors = init_lora(backbone, LoraSpec(targets=targets, top_layers=1), 0)
    one = {n: v + 0.05 for n, v in factors.items()}
    adapter = Adapter(one, 2.0)
    with torch.no_grad():
        each = torch.cat([label_scores(backbone, [p], ANSWERS, adapter=adapter) for p in PROMPTS])
        monkeypatch.setattr(waves, "_ROWS_ON_CPU", 12)
        found = label_scores(backbone, PROMPTS, ANSWERS, adapter=adapter)
        torch.testing.assert_close(found, each, atol=1e-4, rtol=0)
        several = Adapter({n: torch.stack([v, v]) for n, v in one.items()}, 2.0)
        for tasks in ((PROMPTS[:2], PROMPTS[2:4]), (PROMPTS[3:5], PROMPTS[:2])):
            plan = make_task_plan(backbone, [(prompts, ANSWERS) for prompts in tasks])
            trunk = backbone.trunks.trunk(backbone, plan.layout, plan.trie.paths, 2)
            found = score(backbone, plan, adapter=several, trunk=trunk, start=2)
            expected = torch.cat([each[[PROMPTS.index(p) for p in task]] for task in tasks])
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert backbone.trunks.hits


def test_gradients_reach_an_adapter_as_each_prompt_alone_gives_them(name: str) -> None:
    backbone = tiny.backbone(name)
    targets = ("qkv_proj",) if name.startswith("phi3") else ("q_proj",)
    start = init_lora(backbone, LoraSpec(targets=targets), 0)
    factors = {n: (v + 0.05).requires_grad_() for n, v in start.items()}

    def gradients(prompts: list[str]) -> list[torch.Tensor]:
        tasks = make_task_plan(backbone, [(prompts, ANSWERS)])
        adapter = Adapter({n: v[None] for n, v in factors.items()}, 2.0)
        return list(
            torch.autograd.grad(score(backbone, tasks, adapter=adapter).sum(), factors.values())
        )

    each = [gradients([prompt]) for prompt in PROMPTS]
    for found, *parts in zip(gradients(PROMPTS), *each, strict=True):
        torch.testing.assert_close(found, sum(parts), atol=1e-3, rtol=1e-4)


def test_every_new_token_is_what_a_whole_pass_over_the_text_so_far_gives(name: str) -> None:
    backbone = tiny.backbone(name)
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0] + " or"]
    expected = []
    for prompt in prompts:
        tokens = encode(backbone.tokenizer, [prompt])[0].tolist()
        before = len(tokens)
        for _ in range(18):
            model = _untouched(name).model
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
            chosen = int(logits[0, -1].argmax())
            if chosen == backbone.tokenizer.eos_token_id:
                break
            tokens.append(chosen)
        assert len(tokens) > 18
        expected.append(backbone.tokenizer.decode(tokens[before:], skip_special_tokens=True))
    assert generate(backbone, prompts, max_new_tokens=18) == [[text] for text in expected]
    assert generate(plain(name), prompts, max_new_tokens=18) == [[text] for text in expected]


def test_embeddings_are_those_of_the_text_alone(name: str) -> None:
    backbone = tiny.backbone(name)
    embedder = Embedder(backbone, pooling="last", keep=False)
    whole, cut = encode(backbone.tokenizer, PROMPTS), embedder.encode(PROMPTS)
    assert {len(row) for row in whole} & {17, 18}  # made up to 20 where they are embedded
    with torch.no_grad():
        for rows, found in ((whole, embedder.run(whole)), (cut, embedder.embed(PROMPTS))):
            expected = [
                _untouched(name)
                .model.base_model(input_ids=torch.from_numpy(row)[None])
                .last_hidden_state[0, -1]
                for row in rows
            ]
            torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=0)


def test_a_switch_costs_no_more_rows_than_it_must() -> None:
    backbone = tiny.backbone("phi3-longrope")
    shared = np.arange(3, 18)
    short = [np.append(shared, [50, n]) for n in range(3)]
    long = [np.append(shared, [60 + n] * 10) for n in range(3)]
    trie = pack_for(backbone, [*short, *long])
    assert len(trie.tokens) == (15 + 1 + 3) + (15 + 30)  # the shared rows once on either side
    assert len(pack_for(tiny.backbone(), [*short, *long]).tokens) == 15 + 4 + 30


def test_an_encoder_reads_each_text_of_a_padded_batch_as_it_reads_it_alone() -> None:
    kind = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    config = ModernBertConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=18, local_attention=8, pad_token_id=1,
        rope_parameters={"full_attention": kind, "sliding_attention": kind},
        bos_token_id=0, eos_token_id=1, cls_token_id=0, sep_token_id=1,
    )  # fmt: skip

    def made(implementation: str) -> Any:
        torch.manual_seed(0)
        model = AutoModel.from_config(config, attn_implementation=implementation).eval()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
        return model

    encoder = Encoder(made(register()), tiny.tokenizer(), "modernbert")
    check_encoder(encoder)
    rows = [np.arange(2, 2 + length) for length in (7, 18, 19, 30)]
    with torch.no_grad():
        found, _ = encoder.states(rows)
        for row, states in zip(rows, found, strict=True):
            alone = made("sdpa")(input_ids=torch.from_numpy(row)[None]).last_hidden_state[0]
            torch.testing.assert_close(states[: len(row)], alone, atol=1e-4, rtol=0)
