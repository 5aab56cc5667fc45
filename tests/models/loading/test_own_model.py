"""Somebody's own model: found by its file, checked by what it says, part of every key."""

from __future__ import annotations

from pathlib import Path

import pytest

import icl
from icl.errors import IclError
from icl.experiments.config import load_config
from icl.learners.registry import make
from icl.models import Model
from icl.models.embedding.own_vectors import embedder_of
from icl.models.loading.own_model import load_model
from icl.models.scoring.generate import generate
from icl.models.scoring.scorer import label_scores
from tests.learners import problems

SOURCE = """
from icl.models import Model

class Mine(Model):
    can = frozenset({"score", "write", "states"})
    version = "1"

    def score(self, prompts, answers):
        return [[-float(len(a)) for a in answers] for _ in prompts]

    def write(self, prompts, *, samples, **how):
        return [["yes"] * samples for _ in prompts]

    def embed(self, texts):
        return [[float(len(t)), 1.0] for t in texts]
"""
CONFIG = """schema_version: 1
name: mine
model: {{name: '{model}'}}
tasks: {{family: cldr}}
episodes: {{ways: 3, shots: [1], queries: 3, count: 1}}
learners:
  probe: {learner}
"""


def write(folder: Path, text: str = SOURCE) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(text, "utf-8")
    return f"{folder / 'mine.py'}:Mine"


def config(folder: Path, learner: str, text: str = SOURCE) -> Path:
    path = folder / "mine.yaml"
    path.write_text(CONFIG.format(model=write(folder, text), learner=learner), "utf-8")
    return path


def test_it_scores_writes_and_embeds_by_its_name_and_as_an_object(tmp_path: Path) -> None:
    name = write(tmp_path)
    model = icl.load_model(name)
    assert model.name == name
    assert label_scores(model, ["a", "b"], [" x", " yy"]).tolist() == [[-2, -3], [-2, -3]]
    assert generate(model, ["a"], max_new_tokens=1, samples=2, temperature=1.0) == [["yes"] * 2]
    assert embedder_of(model).embed(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    episodes = [problems.episode()]
    one = icl.compare({"in-context": {}, "prototypes": {}}, episodes, name).records
    other = icl.compare({"in-context": {}, "prototypes": {}}, episodes, model).records
    assert [r.log_probs for r in one] == [r.log_probs for r in other]
    assert [r.learner_key for r in one] == [r.learner_key for r in other]


def test_prompting_calibration_lengths_and_ensembles_run_on_scores_alone() -> None:
    class Scores(Model):
        can = frozenset({"score"})

        def score(self, prompts: list[str], answers: list[str]) -> list[list[float]]:
            return [[-float(len(set(p) ^ set(a))) for a in answers] for p in prompts]

    for params in (
        {"calibration": "contextual"},
        {"calibration": "domain"},
        {"calibration": "batch"},
        {"scoring": "channel"},
        {"scoring": "pmi", "normalise": "token"},
        {"normalise": "byte", "ensemble_orders": 2},
        {"choice": "balanced", "demonstrations": 3},
        {"order": "global-entropy", "probes": "words"},
    ):
        predictor = make("in-context", params, Scores()).adapt(
            problems.support(), problems.labels()
        )
        assert predictor.log_probs([e.fields for e in problems.query()]).isfinite().all(), params


def test_its_code_and_its_version_are_its_identity_and_its_place_is_not(tmp_path: Path) -> None:
    def identity(folder: str, text: str) -> str:
        return load_model(write(tmp_path / folder, text)).identity

    before = identity("one", SOURCE)
    assert identity("two", SOURCE + "\n# a thought\n") == before
    assert identity("three", SOURCE.replace('version = "1"', 'version = "2"')) != before
    assert identity("four", SOURCE.replace("1.0]", "2.0]")) != before


def test_a_notebooks_class_is_never_the_same_model() -> None:
    kind = type("Mine", (Model,), {"__module__": "__main__"})
    assert kind().identity != kind().identity


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Other: pass", r"has no model 'Mine'. Derive it from `icl.models.base.Model`"),
        ("class Mine: pass", r"has no model 'Mine'"),
        (SOURCE.replace("class Mine(", "class Mien("), r"Did you mean 'Mien'"),
        ("def broken(:", r"cannot be imported: "),
        (SOURCE + "\n    def __init__(self, url): pass", r"cannot be made: .*'url'"),
        (SOURCE.replace('"states"', '"state"'), r"no ability 'state'. Did you mean 'states'"),
        (SOURCE.replace('frozenset({"score", "write", "states"})', '"score"'), r"give a set"),
    ],
)
def test_what_is_wrong_with_a_class_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(IclError, match=said) as told:
        load_model(write(tmp_path, text))
    assert "\n" not in str(told.value)


def test_a_missing_file_and_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(IclError, match="cannot be imported"):
        load_model(f"{tmp_path / 'none.py'}:Mine")
    with pytest.raises(IclError, match=r"`dtype`.* are not for it"):
        load_model(write(tmp_path), dtype="bfloat16")


SCORES = "[[-float(len(a)) for a in answers] for _ in prompts]"


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ("[[0.0] for _ in prompts]", r"rows and 3 columns, and its shape is \(\d+, 1\)"),
        ("[0.0 for _ in prompts]", r"its shape is \(\d+,\)"),
        ("[[0.0] * len(answers), [0.0]]", "its shape is no table of numbers"),
        ("None", "its shape is no table of numbers"),
        ("[[float('nan') for a in answers] for _ in prompts]", "NaN or infinity"),
    ],
)
def test_scores_of_a_wrong_shape_or_kind_are_told(tmp_path: Path, instead: str, said: str) -> None:
    model = load_model(write(tmp_path, SOURCE.replace(SCORES, instead)))
    predictor = make("zero-shot", {}, model).adapt((), problems.labels())
    with pytest.raises(IclError, match=said) as told:
        predictor.log_probs([e.fields for e in problems.query()])
    assert str(tmp_path) in str(told.value)


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ("[[1.0]]", r"\d+ rows and any width columns, and its shape is \(1, 1\)"),
        ("[1.0 for t in texts]", r"its shape is \(\d+,\)"),
        ("[[float('inf')] for t in texts]", "NaN or infinity"),
    ],
)
def test_vectors_of_a_wrong_shape_or_kind_are_told(tmp_path: Path, instead: str, said: str) -> None:
    text = SOURCE.replace("[[float(len(t)), 1.0] for t in texts]", instead)
    learner = make("prototypes", {}, load_model(write(tmp_path, text)))
    with pytest.raises(IclError, match=said):
        learner.adapt(problems.support(), problems.labels())


def test_texts_of_a_wrong_number_are_told(tmp_path: Path) -> None:
    for instead in ('["yes" for _ in prompts]', "None", '[["yes"] * 2 for _ in prompts]'):
        text = SOURCE.replace('[["yes"] * samples for _ in prompts]', instead)
        with pytest.raises(IclError, match="was to write 1 texts after each of 1 prompts"):
            generate(load_model(write(tmp_path / str(len(instead)), text)), ["a"], max_new_tokens=1)


def test_an_experiment_names_the_line_of_a_method_that_it_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"line 7, field 'learners.probe.method': the method 'lora'"):
        load_config(config(tmp_path, "{method: lora}"))
    load_config(config(tmp_path, "{method: linear-probe}"))


def test_an_experiment_names_the_line_of_a_model_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"line 3, field 'model.name': .* has no model 'Mine'"):
        load_config(config(tmp_path, "{method: linear-probe}", "x = 1"))
    path = tmp_path / "m.yaml"
    path.write_text(
        CONFIG.format(model=write(tmp_path / "two"), learner="{method: svm}").replace(
            "'}", "', dtype: bfloat16}"
        ),
        "utf-8",
    )
    with pytest.raises(IclError, match=r"is a class of your own, .* keep `name` alone"):
        load_config(path)


def test_a_run_goes_on_by_its_identity(tmp_path: Path) -> None:
    pytest.importorskip("babel", reason="the extra `offline` is not installed")
    path = config(tmp_path, "{method: linear-probe}")
    first = icl.run(path, out=tmp_path / "run").records
    again = icl.run(path, out=tmp_path / "run").records
    assert [r.cost.seconds for r in first] == [r.cost.seconds for r in again]  # nothing was redone
