"""A plain PEFT adapter as the start of learners: equal predictions, and what cannot fit is told."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AlbertConfig, AutoModel

from icl.errors import IclError
from icl.experiments.config import load_config
from icl.learners.base import Learner, MetaLearner
from icl.learners.registry import make, validate
from icl.models.adapters import peft_adapter
from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.encoder import Encoder
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests import tiny, tiny_encoders

LABELS = Labels(("month", "organ"), ("month", "organ"), Template("Word: {{ text }}\nKind:"))
TEXTS = [{"text": "Juni"}, {"text": "rein"}, {"text": "слово"}]


@pytest.fixture(autouse=True)
def _no_warning_is_missed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The adapter")
        yield


def save_adapter(folder: Path, architecture: str = "llama", **config: Any) -> tuple[Path, Any]:
    """Make an adapter by plain PEFT with random factors: its folder, and the adapted model."""
    settings = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"], **config}
    model = peft.get_peft_model(tiny.model(architecture), peft.LoraConfig(**settings))
    generator = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            value.data = 0.2 * torch.randn(value.shape, generator=generator)
    model.save_pretrained(folder)
    return folder, model.eval()


def amend(folder: Path, **change: Any) -> None:
    path = folder / peft_adapter.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def by_peft(model: Any) -> torch.Tensor:
    """Score label words after prompts, one whole pass each."""
    rows = []
    for fields in TEXTS:
        prompt = tiny.tokenizer()(LABELS.template.render(fields))["input_ids"]
        scores = []
        for word in LABELS.words:
            whole = tiny.tokenizer()(LABELS.template.render(fields) + LABELS.template.answer(word))[
                "input_ids"
            ]
            at = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b),
                      len(prompt))  # fmt: skip
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            scores.append(sum(logits[i - 1, whole[i]] for i in range(at, len(whole))))
        rows.append(torch.stack(scores))
    return torch.stack(rows).log_softmax(1)


CASES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("lora", "llama", {"steps": 0}, {}),
    ("fomaml", "llama", {"inner_steps": 0}, {"use_rslora": True}),
    ("maml", "llama", {"inner_steps": 0}, {"use_dora": True}),
    ("reptile", "gpt2", {"inner_steps": 1, "adapt_steps": 0}, {"target_modules": ["c_attn"]}),
    ("metaicl", "llama", {"normalise": "sum"}, {"target_modules": "all-linear"}),
    ("lora", "llama", {"steps": 0}, {"layers_to_transform": [0, 2]}),
]


@pytest.mark.parametrize(("method", "architecture", "params", "config"), CASES)
def test_a_learner_that_starts_from_an_adapter_predicts_what_peft_does(
    tmp_path: Path, method: str, architecture: str, params: dict[str, Any], config: dict[str, Any]
) -> None:
    folder, model = save_adapter(tmp_path / "adapter", architecture, **config)
    variant = "dora" if "use_dora" in config else "rslora" if "use_rslora" in config else "lora"
    own = {"rank": 4, "alpha": 12, "variant": variant, "start": str(folder), **params}
    backbone = tiny.backbone(architecture)
    support = [] if method != "reptile" else [
        Example(str(i), fields, LABELS.names[i % 2], "", str(i)) for i, fields in enumerate(TEXTS)
    ]  # fmt: skip
    found = make(method, own, backbone).adapt(support, LABELS).log_probs(TEXTS)
    torch.testing.assert_close(found, by_peft(model), atol=1e-4, rtol=0)
    plain = make("zero-shot", {}, backbone).adapt([], LABELS).log_probs(TEXTS)
    assert (found - plain).abs().max() > 0.01


def test_layers_in_no_list_start_from_an_adapter_too(tmp_path: Path) -> None:
    sizes = {k: v for k, v in tiny_encoders._SIZES.items() if k != "pad_token_id"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = AutoModel.from_config(AlbertConfig(**sizes, embedding_size=16))
    settings = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["query", "value"])
    adapted = peft.get_peft_model(copy.deepcopy(base), settings)
    for name, value in adapted.named_parameters():
        if "lora_B" in name:
            value.data = torch.full_like(value, 0.1)
    adapted.save_pretrained(tmp_path)
    encoder = Encoder(base, tiny_encoders.tokenizer(), "albert", alone=True)
    spec = LoraSpec(rank=4, alpha=12)
    factors = peft_adapter.start_factors(encoder, spec, str(tmp_path), any_modules=True)
    rows = encoder.encode(["Montag"])
    with torch.no_grad():
        found, _ = encoder.states(rows, adapter=Adapter(factors, spec.scale))
        expected = adapted.eval()(torch.from_numpy(rows[0])[None]).last_hidden_state
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert (encoder.states(rows)[0] - expected).abs().max() > 0.01


def test_training_goes_on_from_the_adapter(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path / "adapter")
    own = {"rank": 4, "alpha": 12, "start": str(folder)}
    learner = make("fomaml", own, tiny.backbone())
    assert isinstance(learner, MetaLearner)
    tensors = load_file(folder / peft_adapter.WEIGHTS)
    for name, value in learner.trainable_parameters().items():
        torch.testing.assert_close(value.detach(), tensors[f"base_model.model.{name}.weight"])
        assert value.requires_grad


def test_an_encoders_adapter_may_carry_a_prefix_and_the_head_of_another_task(
    tmp_path: Path,
) -> None:
    model = tiny_encoders.model("bert")
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=["query"])
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / peft_adapter.WEIGHTS
    tensors = {
        name.replace("base_model.model.", "base_model.model.bert."): torch.full_like(value, 0.1)
        for name, value in load_file(path).items()
    }
    save_file({**tensors, "base_model.model.classifier.weight": torch.zeros(2, 32)}, path)
    learner: Any = make(
        "fomaml", {"rank": 4, "alpha": 12, "start": str(tmp_path / "adapter")},
        tiny_encoders.encoder("bert"),
    )  # fmt: skip
    assert len(learner.start) == 6
    assert all(bool((value == 0.1).all()) for value in learner.start.values())


def told(make_learner: Callable[[], Learner]) -> str:
    with pytest.raises(IclError) as error:
        make_learner()
    assert str(error.value).count(". ") == 0  # one sentence
    return str(error.value)


def test_what_does_not_fit_is_told_with_the_mend(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path / "adapter")
    fitting = {"rank": 4, "alpha": 12, "start": str(folder)}

    def attempt(architecture: str = "llama", **params: Any) -> str:
        backbone = tiny.backbone(architecture)
        return told(lambda: make("lora", {**fitting, **params}, backbone))

    assert "does not fit rank 8; set `rank: 4`" in attempt(rank=8)
    both = attempt(rank=8, alpha=16, variant="dora")
    assert "rank 8, alpha 16, variant dora; set `rank: 4`, `alpha: 12`, `variant: lora`" in both
    assert "drop `targets` and `top_layers`" in attempt(targets=["k_proj"])
    assert "drop `targets` and `top_layers`" in attempt(top_layers=1)
    assert "take the model that it was made for" in attempt("gpt2")
    assert "does not exist" in attempt(start="./none")
    assert "cannot be fetched" in attempt(start="some/adapter")  # tests are offline
    assert "neither `zero`, nor `orthogonal`" in attempt(start="ortogonal")
    wide, _ = save_adapter(tmp_path / "wide", "gemma3-hybrid", target_modules=["gate_proj"])
    file = wide / peft_adapter.WEIGHTS
    save_file({name: value[..., :3].contiguous() for name, value in load_file(file).items()}, file)
    assert "has shape [4, 3] instead of [4, 32]" in attempt(start=str(wide))
    file.write_bytes(b"torn")
    assert "damaged" in attempt(start=str(wide))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "IA3"}, "of the kind IA3"),
        ({"rank_pattern": {"q_proj": 2}}, "made with rank_pattern"),
        ({"bias": "all"}, "made with bias"),
        ({"modules_to_save": ["lm_head"]}, "made with modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "made with init_lora_weights"),
        ({"r": None}, "no readable LoRA configuration"),
    ],
)
def test_other_adapters_than_lora_are_told_to_be_merged(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder, _ = save_adapter(tmp_path / "adapter")
    amend(folder, **change)
    own = {"rank": 4, "alpha": 12, "start": str(folder)}
    assert words in told(lambda: make("lora", own, tiny.backbone()))


def test_every_key_is_used_or_named(tmp_path: Path) -> None:
    folder, model = save_adapter(tmp_path / "adapter")
    own, path = {"rank": 4, "alpha": 12, "start": str(folder)}, folder / peft_adapter.WEIGHTS
    tensors = load_file(path)

    def start(rename: Callable[[str], str]) -> Learner:
        save_file({rename(name): value for name, value in tensors.items() if rename(name)}, path)
        return make("lora", {**own, "steps": 0}, tiny.backbone())

    whole = "base_model.model.model."
    for wrapped in ("module.model.", "base_model.model.model.language_model."):
        found = start(lambda name, to=wrapped: name.replace(whole, to))  # type: ignore[misc]
        scores = found.adapt([], LABELS).log_probs(TEXTS)
        torch.testing.assert_close(scores, by_peft(model), atol=1e-4, rtol=0)
    half = told(lambda: start(lambda name: "" if "layers.1.self_attn.v" in name else name))
    assert "has no weights for 'model.layers.1.self_attn.v_proj'" in half
    assert "layers.2.attn" in told(lambda: start(lambda n: n.replace("2.self_attn", "2.attn")))
    head, _ = save_adapter(tmp_path / "head", target_modules=["q_proj", "lm_head"])
    wrong = told(lambda: make("lora", {**own, "start": str(head)}, tiny.backbone()))
    assert "'lm_head'" in wrong and "`icl merge`" in wrong


def test_another_base_of_equal_shapes_is_warned_of(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path / "adapter")
    amend(folder, base_model_name_or_path="org/other")
    with pytest.warns(UserWarning, match="made for 'org/other' and starts on 'tiny-llama'"):
        make("lora", {"rank": 4, "alpha": 12, "start": str(folder)}, tiny.backbone())


def test_keys_know_the_adapters_weights_and_configs_its_name(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path / "adapter")
    own = {"rank": 4, "alpha": 12, "start": str(folder)}
    before = validate("lora", own).identity()
    assert before["start"].startswith("adapter ")
    assert validate("lora", own).model_dump()["start"] == str(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert validate("lora", {**own, "start": str(copy)}).identity() == before
    file = folder / peft_adapter.WEIGHTS
    save_file({name: value + 1 for name, value in load_file(file).items()}, file)
    assert validate("lora", own).identity() != before
    drawn = validate("lora", {})
    assert drawn.identity() == drawn.model_dump(mode="json")


def test_a_configuration_is_checked_before_any_model_loads(tmp_path: Path) -> None:
    folder, _ = save_adapter(tmp_path / "adapter")
    text = f"""schema_version: 1
name: start
model: {{name: some/model}}
tasks: {{family: cldr}}
episodes: {{ways: 2, shots: [1], queries: 2, count: 1}}
learners:
  lora: {{method: lora, start: {folder}}}
"""
    path = tmp_path / "start.yaml"
    path.write_text(text)
    with pytest.raises(IclError, match=r"start\.yaml, line 7.*set `rank: 4`, `alpha: 12`"):
        load_config(path)
    path.write_text(text.replace("method: lora,", "method: lora, rank: 4, alpha: 12,"))
    assert load_config(path).learners["lora"].params().model_dump()["start"] == str(folder)
