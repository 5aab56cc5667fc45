"""Trunks of texts: the numbers of a whole pass, the same bits in any company, charged once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    BertConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from icl.episodes import Episode
from icl.learners.registry import make
from icl.models.encoder import Encoder, register
from icl.models.loading.load import load_backbone
from icl.models.packed.trie import IntArray
from icl.models.text_trunks import as_batch, text_trunks
from icl.runs.bill import Bill
from tests import tiny_encoders
from tests.learners import problems

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "vocab_size": 400,
    "pad_token_id": 1,
}
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "modernbert": ModernBertConfig(**SIZES, local_attention=6, cls_token_id=0, sep_token_id=2),
}
TEXTS = ["May", "a much longer text than the others", "Montag", "x", "Mai", "two of it", "Montag"]
EPISODES = [problems.episode(0), problems.episode(1, shots=3)]
TARGETS = {"modernbert": ("Wqkv",)}


def encoder(kind: str) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AutoModel.from_config(CONFIGS[kind], attn_implementation=register())
        for parameter in made.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    return Encoder(made, tiny_encoders.tokenizer(), f"tiny-{kind}")


def trunks(encoder: Encoder, texts: list[str], below: int = 2) -> list[Tensor]:
    return text_trunks(encoder, encoder.encode(texts), below)


def learner(method: str, encoder: Encoder, **params: Any) -> Any:
    kind = encoder.name.removeprefix("tiny-")
    made: Any = make(
        method,
        {"top_layers": 2, "targets": TARGETS.get(kind, ("query",)), "inner_rate": 0.1, **params},
        encoder,
    )
    generator = torch.Generator().manual_seed(3)
    for value in made.start.values():
        value.data += 0.2 * torch.randn(value.shape, generator=generator)
    made.at_step(9, 10)
    return made


def step(made: Any, episodes: list[Episode] = EPISODES) -> list[Tensor]:
    """The loss and the meta-gradient of one outer step."""
    loss, _ = made.meta_loss(episodes)
    return [loss.detach(), *torch.autograd.grad(loss, list(made.trainable_parameters().values()))]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_trunk_is_what_the_models_own_layers_give(kind: str) -> None:
    model = encoder(kind)
    for text, states in zip(TEXTS, trunks(model, TEXTS), strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            own = model.model(ids, output_hidden_states=True).hidden_states[2][0]
        torch.testing.assert_close(states, own, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_trunk_has_the_same_bits_in_any_company_and_order(kind: str) -> None:
    alone = [trunks(encoder(kind), [text])[0] for text in TEXTS]
    together = trunks(encoder(kind), TEXTS)
    model = encoder(kind)
    trunks(model, TEXTS[3:])
    later = trunks(model, TEXTS[::-1])[::-1]  # some kept, some not
    draw = np.random.default_rng(0)
    many = [*TEXTS, *("".join(chr(c) for c in draw.integers(97, 120, n)) for n in range(1, 40))]
    crowded = trunks(encoder(kind), many)[: len(TEXTS)]
    for own, *others in zip(alone, together, later, crowded, strict=True):
        assert all(torch.equal(own, other) for other in others)


@pytest.mark.parametrize("method", ["fomaml", "maml", "reptile", "protomaml", "anil", "imaml"])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_step_with_a_trunk_is_the_step_of_all_layers(method: str, kind: str) -> None:
    model = encoder(kind)
    model.model.double()
    found = step(doubled(learner(method, model)))
    other = doubled(learner(method, model))
    other.below = 0  # every layer runs at every pass
    calls = model.meter.computed_tokens
    expected = step(other)
    assert model.meter.computed_tokens > calls
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm()) <= 1e-6 * max(float(b.norm()), 1e-6)
    assert max(float(g.norm()) for g in found[1:]) > 1e-6


def doubled(made: Any) -> Any:
    for group in (made.start, made.learned):
        for name, value in group.items():
            group[name] = value.detach().double().requires_grad_()
    return made


@pytest.mark.parametrize("method", ["fomaml", "maml", "maml++", "meta-sgd", "anil"])
def test_a_step_that_comes_by_where_adaptation_ends_says_so(method: str) -> None:
    made = learner(method, encoder("bert"), inner_steps=2)
    problem = made.problem(*made.sides(EPISODES))
    found = made.algorithm.meta_step(made.start, made.learned, problem, 1.0).end
    expected = made.algorithm.adapt(made.start, made.learned, problem)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    longer = learner(method, encoder("bert"), inner_steps=2, adapt_steps=3)
    assert longer.algorithm.meta_step(made.start, made.learned, problem, 1.0).end is None


@pytest.mark.parametrize("top_layers", [None, 2])
def test_lora_heads_on_embeddings_take_the_trunk(top_layers: int | None) -> None:
    model = encoder("bert")
    made: Any = make("lora-head", {"top_layers": top_layers, "targets": ("query",)}, model)
    start = {
        name: value + 0.3 * torch.randn(value.shape, generator=torch.Generator().manual_seed(i))
        for i, (name, value) in enumerate(made._start.items())
    }
    embedder, rows = made._features.embedder, model.encode(TEXTS)
    found = embedder.run(rows, made._adapter(start))
    assert (model.text_trunks.used > 0) == (top_layers is not None)
    states, real = model.states(rows, adapter=made._adapter(start))
    means = (states * real[..., None]).sum(1) / real.sum(1, keepdim=True)
    torch.testing.assert_close(found, means, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("method", ["fomaml", "maml"])
def test_steps_have_the_same_bits_whatever_is_kept(method: str) -> None:
    """Also where a run was stopped in between, or the store held nothing: the same training."""
    model = encoder("bert")
    first, again = step(learner(method, model)), step(learner(method, model))
    model.text_trunks.budget = 0
    model.text_trunks.clear()
    bare = step(learner(method, model))
    fresh = step(learner(method, encoder("bert")))
    for a, *others in zip(first, again, bare, fresh, strict=True):
        assert all(torch.equal(a, other) for other in others)


def test_learners_of_one_model_share_what_they_keep_and_each_pays_for_it() -> None:
    model = encoder("bert")
    bills = []
    for method in ("fomaml", "reptile", "fomaml"):
        with Bill(model) as bill:
            learner(method, model, inner_steps=2).adapt(EPISODES[0].support, EPISODES[0].labels)
        bills.append(bill.cost(0))
    before = model.text_trunks.used
    assert before > 0
    one, two, three = bills
    assert one.computed_tokens == two.computed_tokens == three.computed_tokens
    assert one.forward_flops == two.forward_flops == three.forward_flops
    assert one.shared_tokens == 0 < two.shared_tokens == three.shared_tokens
    assert two.computed_tokens > two.shared_tokens


@pytest.mark.parametrize("budget", [0, 3000, 2**30])
def test_a_cost_hangs_on_no_budget(budget: int) -> None:
    """What was dropped and is computed again is paid for once, as if it had been kept."""
    model = encoder("bert")
    model.text_trunks.budget = budget
    with Bill(model) as bill:
        for _ in range(3):
            trunks(model, TEXTS)
    cost = bill.cost(0)
    lengths = {text: -(-len(model.encode([text])[0]) // 4) * 4 for text in TEXTS}
    assert cost.computed_tokens == round(sum(lengths.values()) * 2 / 4)
    other = encoder("bert")
    with Bill(other) as plain:
        trunks(other, TEXTS)
    assert cost.forward_flops == plain.cost(0).forward_flops
    assert model.text_trunks.used <= budget


def test_the_least_recently_used_is_dropped_first() -> None:
    model = encoder("bert")
    a, b, c = "aaaa", "bbbb", "cccc"
    size = trunks(model, [a])[0].nbytes
    model.text_trunks.budget = 2 * size
    trunks(model, [b])
    trunks(model, [a])
    trunks(model, [c])  # drops b
    before = model.meter.computed_tokens
    trunks(model, [a, c])
    assert model.meter.computed_tokens == before
    model.meter.begin()
    trunks(model, [b])
    assert model.meter.computed_tokens > before
    assert model.text_trunks.used == 2 * size


@pytest.mark.parametrize("how", ["written", "replaced", "looked again"])
def test_changed_weights_drop_what_was_kept(how: str) -> None:
    model = encoder("bert")
    before = trunks(model, TEXTS)
    layer = model.model.get_submodule("encoder.layer.0.attention.self.query")
    weight: Any = layer.weight
    with torch.no_grad():
        if how == "written":
            weight.mul_(3.0)
        elif how == "replaced":
            layer.weight = torch.nn.Parameter(weight * 3.0)
        else:
            weight.data.mul_(3.0)
            model.look_again()
    after = trunks(model, TEXTS)
    changed = encoder("bert")
    other: Any = changed.model.get_submodule("encoder.layer.0.attention.self.query")
    other.weight.data.mul_(3.0)
    for old, new, own in zip(before, after, trunks(changed, TEXTS), strict=True):
        assert not torch.allclose(old, new, atol=1e-3)
        assert torch.equal(new, own)


def test_nothing_is_kept_where_all_layers_are_adapted_or_dropout_is_on() -> None:
    model = encoder("bert")
    step(learner("fomaml", model, top_layers=None))
    assert model.text_trunks.used == 0
    step(learner("fomaml", model))
    assert model.text_trunks.used > 0
    model.forget()  # where an episode begins: bits that hang on nothing may stay
    assert model.text_trunks.used > 0
    model.model.bfloat16()
    model.forget()
    assert model.text_trunks.used == 0


_IN_A_PROCESS = """
import hashlib, sys
from tests.models.test_text_trunks import TEXTS, encoder, trunks
found = trunks(encoder("bert"), TEXTS[int(sys.argv[1]):])[-1]
print(hashlib.sha256(found.numpy().tobytes()).hexdigest())
"""


def test_other_processes_with_other_threads_and_company_find_the_same_bits() -> None:
    own = hashlib.sha256(trunks(encoder("bert"), TEXTS)[-1].numpy().tobytes()).hexdigest()
    root = Path(__file__).parents[2]
    for first, threads in ((6, "2"), (0, "1")):
        done = subprocess.run(
            [sys.executable, "-c", _IN_A_PROCESS, str(first)],
            env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(root)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split()[-1] == own


def test_padding_stands_behind_the_texts() -> None:
    rows: list[IntArray] = [np.arange(3), np.arange(5)]
    states = [torch.ones(len(row), 2) for row in rows]
    batch = as_batch(states, 5)
    assert batch.shape == (2, 5, 2)
    assert batch.sum(2).tolist() == [[2, 2, 2, 0, 0], [2, 2, 2, 2, 2]]


@pytest.mark.slow
def test_the_packaged_e5_has_the_same_bits_in_any_company() -> None:
    one: Any = load_backbone("packaged:multilingual-e5-small", device="cpu")
    texts = ["query: " + text for text in (*TEXTS, "Das Wetter ist heute sehr schön.", "天气很好")]
    rows = one.encode(texts)
    alone = [text_trunks(one, [row], 8)[0] for row in rows]
    one.text_trunks.clear()
    together = text_trunks(one, rows, 8)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    made: list[Any] = [make("fomaml", {"top_layers": 4, "inner_steps": 2}, one) for _ in range(2)]
    made[1].below = 0
    found, expected = step(made[0]), step(made[1])
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).norm()) <= 1e-4 * max(float(b.norm()), 1e-6)
