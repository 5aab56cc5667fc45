"""The hand-over: a meta-trained start as a PEFT adapter that needs nothing of icl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from icl.errors import IclError
from icl.export import RATES, export_learner, write_adapter
from icl.learners.meta_learner import LoraMetaLearner
from icl.learners.registry import make
from icl.models.lora import Adapter
from icl.models.scorer import make_plan, score
from tests import tiny

ALONE = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
model = PeftModel.from_pretrained(model, sys.argv[2]).eval()
assert not [name for name in sys.modules if name.split(".")[0] == "icl"]
ids = torch.tensor([json.loads(sys.argv[3])])
with torch.no_grad():
    print(json.dumps(model(ids).logits[0].tolist()))
"""


def learner(method: str, architecture: str, **params: Any) -> LoraMetaLearner:
    made = make(method, {"rank": 4, **params}, tiny.backbone(architecture))
    assert isinstance(made, LoraMetaLearner)
    generator = torch.Generator().manual_seed(0)
    for value in made.start.values():
        value.data += 0.2 * torch.randn(value.shape, generator=generator)
    return made


@pytest.mark.parametrize(
    ("architecture", "variant"), [("llama", "rslora"), ("gemma3-hybrid", "lora"), ("gpt2", "dora")]
)
def test_the_adapter_gives_equal_logits_in_a_process_without_icl(
    tmp_path: Path, architecture: str, variant: str
) -> None:
    made = learner("fomaml", architecture, variant=variant)
    params = made._params.model_dump(mode="json")
    base, out = tiny.save(tmp_path / "base", architecture), tmp_path / "adapter"
    out.mkdir()
    write_adapter(out, made.state_dict(), params, method="fomaml", model="base")
    prompt, answer = "Word: Juni\nKind:", " month"
    ids = tiny.tokenizer()(prompt + answer)["input_ids"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(base), str(out), json.dumps(ids)],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    logits = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    plan = make_plan(made.backbone, [prompt], [answer])
    factors = {n: v.detach() for n, v in made.start.items()}
    with torch.no_grad():
        ours = score(made.backbone, plan, adapter=Adapter(factors, made.scale))
    scored = len(plan.target)
    theirs = logits.log_softmax(-1)[-scored - 1 : -1].gather(
        1, torch.tensor(ids[-scored:])[:, None]
    )
    torch.testing.assert_close(ours[0, 0], theirs.sum(), atol=1e-4, rtol=0)
    base_score = score(made.backbone, plan)
    assert not torch.allclose(ours, base_score, atol=1e-2)


@pytest.mark.parametrize("method", ["maml++", "meta-sgd"])
def test_learned_rates_stand_beside_the_adapter(tmp_path: Path, method: str) -> None:
    from safetensors.torch import load_file

    made = learner(method, "llama")
    params = made._params.model_dump(mode="json")
    write_adapter(tmp_path, made.state_dict(), params, method=method, model="base")
    told = json.loads((tmp_path / RATES).read_text())
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    rates = told["rates"]
    if told["rates_file"]:
        rates |= {n: v.tolist() for n, v in load_file(tmp_path / told["rates_file"]).items()}
    assert rates.keys() == tensors.keys()
    for name, value in made.learned.items():
        own = f"base_model.model.{name.removeprefix('rate/')}.weight"
        assert rates[own] == pytest.approx(value.detach()) or rates[own] == value.tolist()
    assert told["method"] == method
    assert told["inner_steps"] == params["inner_steps"]


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"no run\.json"):
        export_learner(tmp_path, "fomaml", tmp_path / "out")
    roster = {"learners": [{"name": "lora", "method": "lora", "training": None}]}
    (tmp_path / "run.json").write_text(json.dumps(roster))
    with pytest.raises(IclError, match=r"no learner 'fomam'"):
        export_learner(tmp_path, "fomam", tmp_path / "out")
    with pytest.raises(IclError, match="no meta-trained state"):
        export_learner(tmp_path, "lora", tmp_path / "out")
    with pytest.raises(IclError, match="no LoRA factors"):
        write_adapter(tmp_path, {"w": torch.zeros(1)}, {}, method="relation", model="base")
