"""What must never happen: code from data, paths that lead out, secrets that are written down."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import icl
from icl.errors import IclError
from icl.experiments.model_config import ModelConfig
from icl.experiments.models import make_model
from icl.models.loading import load as loading
from icl.runs import runner as runner_module
from icl.tasks import load_family
from tests.place import FAMILY, Place

ROOT = Path(icl.__file__).parent
SOURCES = [
    *sorted(path for path in ROOT.rglob("*.py") if "_shipped" not in path.parts),
    *sorted((ROOT.parent / "scripts").glob("*.py")),
]
# Modules whose files or messages can hold code that runs when they are read.
RUNS_WHAT_IT_READS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def faults(text: str) -> Iterator[str]:
    """Yield the lines of a source that could run what they read, or hand code around."""
    for node in ast.walk(ast.parse(text)):
        bad = False
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            bad = not RUNS_WHAT_IT_READS.isdisjoint(name.split(".")[0] for name in names)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            bad = (
                (name == "torch.load" and given.get("weights_only") != "True")
                or (
                    name in ("np.load", "numpy.load")
                    and given.get("allow_pickle", "False") != "False"
                )
                or (name == "yaml.load" and given.get("Loader") == "yaml.UnsafeLoader")
                or (name.endswith("from_pretrained") and given.get("trust_remote_code") == "True")
                or name in ("eval", "exec", "os.system", "yaml.unsafe_load", "yaml.full_load")
                or given.get("shell") == "True"
                or name.split(".")[-1] in ("broadcast_object_list", "all_gather_object")
            )
        if bad:
            yield ast.unparse(node)


def test_nothing_that_is_read_can_run() -> None:
    found = [f"{path}: {line}" for path in SOURCES for line in faults(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(file)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "dist.all_gather_object(found, mine)",
    ],
)
def test_what_could_run_is_found(line: str) -> None:
    assert list(faults(f"def inner():\n    {line}\n")) == [line]


def test_weights_are_read_from_safetensors_only(tmp_path: Path) -> None:
    import torch

    from tests import tiny

    model = tiny.save(tmp_path / "model")
    (model / "model.safetensors").unlink()
    torch.save(tiny.model().state_dict(), model / "pytorch_model.bin")
    with pytest.raises(IclError, match="safetensors"):
        loading.load_backbone(str(model))


def test_remote_code_is_off_unless_asked_for_and_then_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []

    def load(name: str, **options: object) -> None:
        seen.append(bool(options["trust_remote_code"]))
        raise IclError("far enough.")

    monkeypatch.setattr(loading, "load_tokenizer", load)
    with pytest.raises(IclError, match="far enough"):
        make_model(ModelConfig(name="some/model")).backbone()
    asked = make_model(ModelConfig(name="some/model", trust_remote_code=True))
    with pytest.warns(UserWarning, match="'some/model' runs"), pytest.raises(IclError):
        asked.backbone()
    assert seen == [False, True]


@pytest.mark.parametrize(
    "file", ["../{language}.jsonl", "/etc/{language}.jsonl", "x/../../{language}.jsonl"]
)
def test_a_definition_cannot_name_files_outside_the_data(file: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "cc.jsonl").write_text('{"id": 1, "label": "animal", "text": "secret"}\n')
    definition = tmp_path / "things.yaml"
    definition.write_text(FAMILY.replace("{language}/{split}.jsonl", file))
    family = load_family(str(definition), data=str(tmp_path / "data"))
    with pytest.raises(IclError, match="lies outside the data directory"):
        family.load("kind", "cc")


def test_a_language_cannot_lead_outside_the_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    definition = tmp_path / "things.yaml"
    definition.write_text(FAMILY.replace("[cc, dd]", '["../cc", dd]'))
    with pytest.raises(IclError, match=r"outside the data directory|language"):
        load_family(str(definition), data=str(tmp_path / "data")).load("kind", "../cc")


@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/x", ".."])
def test_an_experiments_name_cannot_lead_out_of_the_runs(name: str, place: Place) -> None:
    assert "cannot name a folder" in place.refusal(
        "run", place.write("name: tiny", f"name: {name}")
    )


SECRETS = {
    "HF_TOKEN": "hf_PlantedPlantedPlantedPlanted0001",
    "OPENAI_API_KEY": "sk-planted-000000000000000000000002",
    "AWS_SECRET_ACCESS_KEY": "planted/planted/planted/planted/0003",
    "WANDB_API_KEY": "planted0000000000000000000000000004",
}


@pytest.mark.parametrize("fails", [False, True])
def test_secrets_of_the_environment_are_written_nowhere(
    fails: bool,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    if fails:
        monkeypatch.setattr(runner_module, "judge", lambda *a, **k: 1 / 0)
    code, out, err = place.icl("run", place.write(), "--out", "run", "--limit", 1)
    assert code == (2 if fails else 0)
    files = [path for path in Path("run").rglob("*") if path.is_file()]
    assert (Path("run/error.log") in files) == fails
    for value in SECRETS.values():
        assert value not in out + err
        for path in files:
            assert value.encode() not in path.read_bytes()


def test_scripts_in_texts_and_labels_are_shown_not_run(place: Place) -> None:
    evil = "<script>alert(1)</script>"
    data = place.folder / "evil"
    for language in ("aa", "bb", "cc", "dd"):
        (data / language).mkdir(parents=True)
        rows = [
            {"id": f"{label}{i}", "label": label, "text": f"{evil} {label} {language} {i}"}
            for label in (evil, "plant", "stone", "star")
            for i in range(6)
        ]
        (data / language / "all.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    family = FAMILY.replace("[animal, plant", f'["{evil}", plant')
    config = place.write("majority: {method: majority}", f'"{evil}": {{method: majority}}', family)
    config.write_text(config.read_text().replace(str(place.folder / "data"), str(data)))
    text = config.read_text()
    config.write_text(text[: text.index("  zero-shot:")])
    code, _, err = place.icl("run", config, "--out", "run", "--limit", 1)
    assert code == 0, err
    page = Path("run/report.html").read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
