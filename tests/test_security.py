"""What must never happen: code from data, paths that lead out, secrets that are written down."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import icl
from icl.errors import IclError
from icl.experiments.config import ModelConfig
from icl.experiments.models import make_model
from icl.models.loading import load as loading
from icl.runs import runner as runner_module
from icl.tasks import load_family
from tests.cli.test_run import (
    FAMILY,
    Place,
    material,  # noqa: F401  (a fixture)
    place,  # noqa: F401  (a fixture)
)

ROOT = Path(icl.__file__).parent
SOURCES = [
    *sorted(path for path in ROOT.rglob("*.py") if "_shipped" not in path.parts),
    *sorted((ROOT.parent / "scripts").glob("*.py")),
]
# Modules whose files or messages can hold code that runs when they are read.
RUNS_WHAT_IT_READS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT.parent).as_posix())
def test_nothing_that_is_read_can_run(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            assert RUNS_WHAT_IT_READS.isdisjoint(name.split(".")[0] for name in names)
    for name, call in calls(path):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name == "torch.load":
            assert given.get("weights_only") == "True"
        elif name in ("np.load", "numpy.load"):
            assert given.get("allow_pickle", "False") == "False"
        elif name == "yaml.load":
            assert given.get("Loader") != "yaml.UnsafeLoader"
        elif name.endswith("from_pretrained"):
            assert given.get("trust_remote_code") != "True"
        assert name not in ("eval", "exec", "os.system", "yaml.unsafe_load", "yaml.full_load")
        assert given.get("shell") != "True"
        assert name.split(".")[-1] not in ("broadcast_object_list", "all_gather_object")


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
def test_an_experiments_name_cannot_lead_out_of_the_runs(name: str, place: Place) -> None:  # noqa: F811
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
    place: Place,  # noqa: F811
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


def test_scripts_in_texts_and_labels_are_shown_not_run(place: Place) -> None:  # noqa: F811
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
