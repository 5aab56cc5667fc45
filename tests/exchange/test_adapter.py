"""The hand-over: a meta-trained start as a PEFT adapter that needs nothing of icl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from icl.errors import IclError
from icl.exchange.adapter import RATES, export_learner, push_to_hub, write_adapter
from icl.exchange.merge import merge_adapter
from icl.exchange.model_card import base_name
from icl.learners.gradient.meta_learner import LoraMetaLearner
from icl.learners.registry import make
from icl.models.adapters.lora import Adapter
from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import make_plan, score
from tests import tiny
from tests.place import Place

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
    roster = {"learners": [{"name": "lora", "method": "lora", "key": None, "training": None}]}
    (tmp_path / "run.json").write_text(json.dumps(roster))
    with pytest.raises(IclError, match=r"no learner 'fomam'"):
        export_learner(tmp_path, "fomam", tmp_path / "out")
    with pytest.raises(IclError, match="no meta-trained state"):
        export_learner(tmp_path, "lora", tmp_path / "out")
    with pytest.raises(IclError, match="no LoRA factors"):
        write_adapter(tmp_path, {"w": torch.zeros(1)}, {}, method="relation", model="base")


class Hub:
    """Takes what is uploaded, as the Hub's client does."""

    def __init__(self, folder: Path, refuses: bool = False) -> None:
        self.folder, self.refuses, self.private = folder, refuses, False

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> Any:
        from huggingface_hub import RepoUrl

        assert exist_ok
        self.private = private
        return RepoUrl(f"https://huggingface.co/{repository}")

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        if self.refuses:
            raise OSError("you may not write here")
        assert commit_message
        shutil.copytree(folder_path, self.folder / repo_id)


def test_an_export_has_a_card_with_the_runs_own_figures_and_can_be_pushed(place: Place) -> None:
    path = place.write()
    assert place.icl("run", path, "--out", "run")[0] == 0
    out = place.folder / "adapter"
    assert place.icl("export", "run", "fomaml", out)[0] == 0
    card = (out / "README.md").read_text("utf-8")
    _, head, body = card.split("---\n", 2)
    assert "base_model" not in yaml.safe_load(head)  # it lies in a directory of this machine
    assert str(place.folder) not in card
    assert yaml.safe_load(head)["library_name"] == "peft"
    for fact in ("CC0-1.0", "made-up things", "2 steps of 2", "3 ways, 2 shots", "seed: 0"):
        assert fact in body
    from icl.api import open_run

    curves = open_run(place.folder / "run").curves()
    own = curves[curves["learner"] == "fomaml"]
    assert len(own) == 4
    for _, row in own.iterrows():
        interval = f"({100 * row.low:.1f}–{100 * row.high:.1f})"
        wanted = (
            f"| {row.setting} | {row.shots} | 3 | 33.3 % | {100 * row.accuracy:.1f} % {interval}"
        )
        assert wanted in body
    hub = Hub(place.folder / "hub")
    assert "me/mine" in push_to_hub(out, "me/mine", private=True, api=hub)  # type: ignore[arg-type]
    assert hub.private
    sent = {path.name for path in (place.folder / "hub" / "me" / "mine").iterdir()}
    assert sent == {path.name for path in out.iterdir()}
    for path in (place.folder / "hub" / "me" / "mine").iterdir():
        assert str(place.folder).encode() not in path.read_bytes()
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= sent
    with pytest.raises(IclError, match="you may not write here; log in"):
        push_to_hub(out, "me/mine", api=Hub(place.folder, refuses=True))  # type: ignore[arg-type]
    with pytest.raises(IclError, match="holds no adapter"):
        push_to_hub(place.folder, "me/mine")
    with pytest.raises(IclError, match="does not take 'me/mine'"):
        push_to_hub(out, "me/mine")  # tests are offline


@pytest.mark.parametrize(("architecture", "variant"), [("llama", "rslora"), ("gpt2", "lora")])
def test_a_merged_adapter_is_a_model_that_predicts_what_the_adapted_one_does(
    tmp_path: Path, architecture: str, variant: str
) -> None:
    made = learner("fomaml", architecture, variant=variant)
    params = made._params.model_dump(mode="json")
    base, adapter = tiny.save(tmp_path / "base", architecture), tmp_path / "adapter"
    adapter.mkdir()
    write_adapter(adapter, made.state_dict(), params, method="fomaml", model=str(base))
    merged = merge_adapter(str(base), str(adapter), tmp_path / "merged")
    model = load_backbone(str(merged))
    prompts, answers = ["Word: Juni\nKind:", "Word: rein\nKind:"], [" month", " organ"]
    factors = {n: v.detach() for n, v in made.start.items()}
    with torch.no_grad():
        ours = score(made.backbone, make_plan(made.backbone, prompts, answers),
                     adapter=Adapter(factors, made.scale))  # fmt: skip
        theirs = score(model, make_plan(model, prompts, answers))
        plain = score(made.backbone, make_plan(made.backbone, prompts, answers))
    torch.testing.assert_close(theirs, ours, atol=1e-3, rtol=0)
    assert not torch.allclose(theirs, plain, atol=1e-2)


def test_what_cannot_be_merged_is_told(tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "base")
    with pytest.raises(IclError, match="does not exist"):
        merge_adapter(str(base), str(tmp_path / "none"), tmp_path / "out")
    with pytest.raises(IclError, match="not empty"):
        merge_adapter(str(base), str(base), base)
    with pytest.raises(IclError, match=r"no adapter_config\.json"):
        merge_adapter(str(base), str(base), tmp_path / "out")
    with pytest.raises(IclError, match="cannot be fetched"):
        merge_adapter(str(base), "some/adapter", tmp_path / "out")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "adapter_config.json").write_text("{}")
    (tmp_path / "pickled" / "adapter_model.bin").write_text("")
    with pytest.raises(IclError, match=r"no adapter_model\.safetensors"):
        merge_adapter(str(base), str(tmp_path / "pickled"), tmp_path / "out")
    other = learner("fomaml", "gpt2")
    (tmp_path / "other").mkdir()
    write_adapter(tmp_path / "other", other.state_dict(), other._params.model_dump(mode="json"),
                  method="fomaml", model="base")  # fmt: skip
    with pytest.raises(IclError, match="cannot be merged into"):
        merge_adapter(str(base), str(tmp_path / "other"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("owner/model", ("owner/model", True)),
        ("packaged:gemma-3-270m", ("packaged:gemma-3-270m", False)),
        ("/home/me/secret/model", ("model", False)),
    ],
)
def test_a_card_names_its_base_as_the_hub_can_read_it(name: str, told: tuple[str, bool]) -> None:
    assert base_name(name) == told
