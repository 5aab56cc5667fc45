"""Architectures that once were wrong, refused or crashed, by the script that compares them all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

from icl.errors import IclError
from icl.learners.gradient.task_head import firsts
from icl.learners.registry import make
from icl.models.adapters.lora import default_targets, linear_maps
from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.memory import bytes_per_row
from icl.models.packed import attention
from icl.models.scoring.plain import PlainBackbone
from icl.models.scoring.scorer import make_plan
from icl.models.scoring.waves import _run, wave_cuts
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests import tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import architectures
import zoo

RISKY = {
    "gemma3": "packed",  # from 4B up: a multimodal configuration
    "gemma3n": "packed",  # upper layers attend to keys of lower ones; sizes differ by layer
    "gemma4_text": "packed",
    "qwen2_5_vl": "packed",
    "mllama": "packed",  # layers that do not run without an image
    "bloom": "plain",
    "falcon_mamba": "plain",
    "deberta-v2": "plain",  # layers that give two things
    "albert": "plain",  # one layer, run several times
    "mpnet": "plain",
    "fnet": "plain",  # padding changes its numbers
    "eurobert": "padded",  # fewer keys than queries
    "umt5": "answers packed",
    "mbart": "answers alone",  # does not say where its decoder begins
    "fsmt": "answers alone",  # sees later tokens of an answer unless it is told the prompt
}


@pytest.mark.parametrize("name", RISKY)
def test_what_runs_equals_plain_transformers_and_the_rest_is_refused(name: str) -> None:
    found = architectures.examine(name)
    assert found.road == RISKY[name]
    bad = {a: v for a, v in found.verdicts.items() if not v.startswith(("equal", "refused"))}
    assert bad == {}
    refused = {a for a, v in found.verdicts.items() if v.startswith("refused")}
    kind = zoo.KINDS[name]
    if kind == "encoder":
        assert refused == {"scores", "generation"}
    elif kind == "encoder-decoder":
        assert refused == {"LoRA", "second order", "embeddings", "token states"}
    else:
        assert refused == ({"LoRA", "second order"} if found.road == "plain" else set())


def test_every_architecture_with_linear_layers_has_default_targets() -> None:
    without, not_pefts = set(), set()
    for name, kind in zoo.KINDS.items():
        if kind == "encoder-decoder":
            continue
        made = zoo.model(name)
        backbone = PlainBackbone(made, zoo.tokenizer(kind), name)
        own = {path.rpartition(".")[2] for path in linear_maps(backbone)}
        try:
            found = default_targets(backbone)
        except IclError:
            without.add(name)
            continue
        assert found, name
        assert set(found) <= own, name
        known = KNOWN.get(made.config.model_type)
        if isinstance(known, list) and found != tuple(known):
            not_pefts.add(name)
    assert without == {"squeezebert", "ibert"}  # convolutions, and linear maps of its own
    assert not_pefts == set()


def test_the_page_has_a_row_for_each_architecture() -> None:
    page = (Path(__file__).parents[2] / "docs/models.md").read_text("utf-8")
    assert [name for name in zoo.KINDS if f"\n| `{name}` |" not in page] == []
    assert "wrong" not in page.partition(architectures._BEGIN)[2]
    assert "crashed" not in page.partition(architectures._BEGIN)[2]


def test_a_model_that_reads_both_ways_is_refused(tmp_path: Path) -> None:
    zoo.save("paligemma", zoo.model("paligemma"), tmp_path)
    with pytest.raises(IclError, match="reads texts in both directions"):
        load_backbone(str(tmp_path), device="cpu")


@pytest.mark.parametrize("name", ["gemma3n_text", "gemma4_text"])
def test_long_tries_of_models_whose_layers_differ_run_in_waves(name: str) -> None:
    made = zoo.model(name)
    backbone = Backbone(made, zoo.tokenizer("decoder"), name)
    made.set_attn_implementation(attention.register())
    assert bytes_per_row(backbone) > 0
    plan = make_plan(backbone, ["Word: January is a", "Word: Montag is a"], [" month", " weekday"])
    with torch.no_grad():
        whole = backbone.hidden(plan.layout)
        waves = _run(backbone, plan.trie, None, wave_cuts(plan.trie, 6))
    torch.testing.assert_close(waves, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["granite", "cohere2", "gemma2", "phi", "llama"])
def test_anil_without_steps_is_the_models_own_prediction(name: str) -> None:
    made = zoo.model(name)
    made.set_attn_implementation(attention.register())
    if made.lm_head.bias is not None:
        torch.nn.init.normal_(made.lm_head.bias)
    backbone = Backbone(made, tiny.tokenizer(), name)
    template = Template("Word: {{ word }}\nKind:")
    labels = Labels(names=("a", "b", "c"), words=("month", "weekday", "animal"), template=template)
    support = [
        Example(word, {"word": word}, label, "en", word)
        for word, label in (("May", "a"), ("Montag", "b"), ("organ", "c"))
    ]
    texts = [{"word": word} for word in ("June", "the cat")]
    learner = make("anil", {"inner_steps": 0}, backbone)
    got = learner.adapt(support, labels).log_probs(texts)
    with torch.no_grad():
        after = [
            made(input_ids=torch.tensor([tiny.tokenizer()(template.render(text))["input_ids"]]))
            for text in texts
        ]
    words = firsts(backbone, labels)
    wanted = torch.stack([out.logits[0, -1, words].log_softmax(0) for out in after])
    torch.testing.assert_close(got, wanted, atol=2e-4, rtol=0)
