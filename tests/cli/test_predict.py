"""`icl predict` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests import tiny
from tests.labelling import place as tables
from tests.place import Place, run_icl


def test_a_table_is_labelled_with_a_model_from_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, new = tables.train(tmp_path), tables.new(tmp_path)
    model = tiny.save(tmp_path / "model")
    common = ("--text", "phrase", "--label", "kind", "--model", model)
    assert run_icl(monkeypatch, "predict", train, new, *common, "--method", "in-context") == 0
    table = pd.read_csv(tmp_path / "new.labelled.csv")
    assert len(table) == len(tables.ROWS) + 1
    assert "19 rows labelled" in capsys.readouterr().out
    out = tmp_path / "other.jsonl"
    more = ("--method", "lora", "--set", "steps=3", "--set", "rank=2", "--word", "month=Monat",
            "--template", r"{{ phrase }}\nis a", "--out", out)  # fmt: skip
    assert run_icl(monkeypatch, "predict", train, new, *common, *more) == 0
    assert len(out.read_text().splitlines()) == len(tables.ROWS) + 1
    capsys.readouterr()
    assert run_icl(monkeypatch, "predict", train, new, *common) == 2
    told = capsys.readouterr().err
    assert "new.labelled.csv exists" in told
    assert run_icl(monkeypatch, "predict", train, new, *common, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "stps=3", "--method", "lora"], "Did you mean 'steps'"),
        (["--set", "steps"], "is no assignment"),
        (["--word", "month"], "--word is 'month'"),
        (["--method", "prototpyes"], "Did you mean 'prototypes'"),
        (["--learner", "maml"], "name its folder with --from"),
        (["--from", "runs/x", "--method", "lora"], "drop the others"),
        (["--label", "knd"], "Did you mean 'kind'"),
    ],
)
def test_each_fault_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    train, new = tables.train(tmp_path), tables.new(tmp_path)
    columns = ["--text", "phrase", "--label", "kind"]
    assert run_icl(monkeypatch, "predict", train, new, *columns, *arguments) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told


def test_a_meta_trained_learner_of_a_run_labels_with_its_trained_state(
    place: Place,
) -> None:
    assert place.icl("run", place.write(), "--out", place.folder / "run", "--limit", 1)[0] == 0
    train, new = tables.train(place.folder), tables.new(place.folder)
    common = ("predict", train, new, "--text", "phrase", "--label", "kind")
    out = place.folder / "out.csv"
    code, said, _ = place.icl(*common, "--from", place.folder / "run", "--out", out)
    assert (code, "fomaml, 18 examples" in said) == (0, True)
    from icl.exchange.trained import load_learner
    from icl.labelling.data import open_table, read_fields, read_training
    from icl.learners.registry import make

    loaded = load_learner(place.folder / "run")
    training = read_training(train, text=["phrase"], label="kind")
    fields = read_fields(open_table(new), training.columns)
    shown = pd.read_csv(out)[[f"p_{name}" for name in training.labels.names]].to_numpy()
    predictor = loaded.learner.adapt(training.support, training.labels)
    assert shown == pytest.approx(predictor.log_probs(fields).exp().numpy(), abs=1e-4)
    fresh = make("fomaml", loaded.params, tiny.backbone())
    untrained = fresh.adapt(training.support, training.labels).log_probs(fields).exp().numpy()
    assert abs(shown - untrained).max() > 1e-4
    other = place.folder / "lora.csv"
    assert place.icl(*common, "--from", place.folder / "run", "--learner", "lora",
                     "--out", other)[0] == 0  # fmt: skip
    refused = place.refusal(*common, "--from", place.folder / "run", "--learner", "lra",
                            "--out", place.folder / "x.csv")  # fmt: skip
    assert "Did you mean 'lora'" in refused


def test_methods_are_listed_with_their_parameters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from icl.learners.registry import methods

    assert run_icl(monkeypatch, "methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(methods())
    assert all(len(line.split()) > 3 for line in lines)
    assert run_icl(monkeypatch, "methods", "lora") == 0
    assert "steps = 10" in capsys.readouterr().out
