"""What a model can do and a method needs: told by them, brought together in one place, and true."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import icl
from icl.errors import IclError
from icl.learners.base import MetaLearner
from icl.learners.registry import check_model, learner_class, make, methods, validate
from icl.models import Model
from icl.models.base import DECODER, ENCODER, PROMPTED
from icl.models.scoring.generate import generate
from icl.models.scoring.plain import PlainBackbone
from icl.models.seq2seq import Seq2Seq
from tests import tiny, tiny_encoders
from tests.learners import problems

ROOT = Path(icl.__file__).parent
ISA = {"isinstance", "issubclass"}
FEW: dict[str, dict[str, Any]] = {
    "lora": {"steps": 1}, "lora-head": {"steps": 1}, "head-finetuning": {"steps": 2},
    "setfit": {"pairs": 1},
}  # fmt: skip


def is_model(node: ast.ClassDef, known: set[str]) -> bool:
    bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
    return node.name == "Model" or not known.isdisjoint(bases)


def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in ROOT.rglob("*.py")}


def model_classes() -> dict[str, Path]:
    """Return the classes of models, by name, with the files that they stand in."""
    found = {"Model": ROOT / "models/base.py"}
    files = {path: tree for path, tree in trees().items() if ROOT / "models" in path.parents}
    while True:
        more = {
            node.name: path
            for path, tree in files.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and is_model(node, set(found))
        }
        if set(more) == set(found):
            return more
        found = more


def test_nothing_asks_for_a_models_class_to_know_what_it_can_do() -> None:
    classes = model_classes()
    known = {"Model", "Backbone", "Encoder", "Seq2Seq", "PlainBackbone", "ServerModel"}
    assert known <= set(classes)
    found = [
        f"{path}:{line}"
        for path, tree in trees().items()
        for line in asked(tree, {name for name, home in classes.items() if home != path})
    ]
    assert not found, found


def asked(tree: ast.AST, classes: set[str]) -> Iterator[int]:
    """Yield the lines that ask whether something is of one of these classes."""
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ISA:
            parts = list(node.args[1:])
        elif isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchClass):
            parts = [node.cls]
        inner = [n for part in parts for n in ast.walk(part)]
        names = {getattr(n, "id", getattr(n, "attr", getattr(n, "value", ""))) for n in inner}
        if any(isinstance(name, str) and name in classes for name in names):
            yield getattr(node, "lineno", 0)


@pytest.mark.parametrize(
    "bad",
    [
        "isinstance(model, Encoder)",
        "isinstance(model, (int, models.Encoder))",
        "issubclass(kind, Encoder)",
        "type(model) is Encoder",
        "type(model) in {Encoder}",
        "type(model).__name__ == 'Encoder'",
        "match model:\n    case Encoder(): pass",
    ],
)
def test_a_question_for_a_class_is_found(bad: str) -> None:
    assert list(asked(ast.parse(bad), {"Encoder"})) != []
    assert list(asked(ast.parse(bad), {"Seq2Seq"})) == []


class Scoring(Model):
    """Answers score by how many letters they share with the prompt's end."""

    can = frozenset({"score"})

    def score(self, prompts: Any, answers: Any) -> Any:
        return [[-float(len(set(a) ^ set(p[-9:]))) for a in answers] for p in prompts]


class Embedding(Model):
    can = frozenset({"states"})

    def embed(self, texts: Any) -> Any:
        return [[float(text.count(letter)) for letter in "aeiouy"] for text in texts]


class Writing(Scoring):
    can = PROMPTED

    def write(self, prompts: Any, **how: Any) -> Any:
        return [[prompt[-3:]] * how["samples"] for prompt in prompts]


def seq2seq() -> Seq2Seq:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=len(tiny.tokenizer()), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=1, pad_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return Seq2Seq(T5ForConditionalGeneration(config), tiny.tokenizer(), "tiny-t5")


KINDS: dict[str, tuple[Callable[[], Model], frozenset[str]]] = {
    "decoder": (tiny.backbone, DECODER),
    "plain": (
        lambda: PlainBackbone(tiny.model("llama", "sdpa"), tiny.tokenizer(), "plain"),
        DECODER - {"adapt"},
    ),
    "encoder": (tiny_encoders.encoder, ENCODER),
    "encoder-decoder": (seq2seq, PROMPTED | {"weights"}),
    "scoring": (Scoring, frozenset({"score"})),
    "embedding": (Embedding, frozenset({"states"})),
    "writing": (Writing, PROMPTED),
}


@pytest.mark.parametrize("method", methods())
def test_a_method_runs_on_the_models_that_can_do_what_it_needs_and_no_others(method: str) -> None:
    params = validate(method, FEW.get(method, {}))
    ran = []
    for kind, (make_model, can) in KINDS.items():
        model = make_model()
        assert model.can == can
        if learner_class(method).needs(params) <= can:
            ran.append(kind)
            _runs(method, kind, model)
        else:
            said = f"The method {method!r} needs a model that .* is none; take a method such as"
            with pytest.raises(IclError, match=said.replace("+", "[+]")):
                make(method, FEW.get(method, {}), model)
            assert model.meter.tokens == 0
    assert ran


def _runs(method: str, kind: str, model: Model) -> None:
    if method == "setfit":
        return  # loads the model's files anew: tests/learners/embedding has it
    given = dict(FEW.get(method, {}))
    if kind == "encoder" and "targets" in type(validate(method, {})).model_fields:
        given["targets"] = ("query",)
    learner = make(method, given, model)
    if isinstance(learner, MetaLearner):
        loss, _ = learner.meta_loss([problems.episode()])
        assert bool(loss.isfinite()), kind
    found = learner.adapt(problems.support(), problems.labels()).log_probs([{"text": "may"}] * 2)
    assert found.shape == (2, len(problems.labels())), kind
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_writes_where_it_says_so(kind: str) -> None:
    model = KINDS[kind][0]()
    if "write" in model.can:
        [texts] = generate(model, ["Word: may\nKind:"], max_new_tokens=2)
        assert len(texts) == 1
    else:
        with pytest.raises(IclError, match="is none that writes answers"):
            generate(model, ["Word: may\nKind:"], max_new_tokens=2)


@pytest.mark.parametrize(
    ("method", "params", "wanted"),
    [
        ("in-context", {}, {"score"}),
        ("in-context", {"choice": "knn", "demonstrations": 1}, {"score", "states"}),
        ("in-context", {"order": "similarity"}, {"score", "states"}),
        ("in-context", {"order": "global-entropy"}, {"score", "write"}),
        ("in-context", {"order": "global-entropy", "probes": "words"}, {"score"}),
        ("prototypes", {}, {"states"}),
        ("prototypes", {"layer": 2}, {"states", "token_states"}),
        ("prototypes", {"pooling": "mean"}, {"states", "token_states"}),
        ("relation", {"tune": "lora"}, {"states", "adapt"}),
        ("tfidf", {}, set()),
    ],
)
def test_parameters_decide_what_is_needed(
    method: str, params: dict[str, Any], wanted: set[str]
) -> None:
    assert learner_class(method).needs(validate(method, params)) == wanted


def test_what_only_parameters_ask_for_is_told_so() -> None:
    for method, params in (
        ("prototypes", {"layer": 1}),
        ("relation", {"tune": "lora"}),
    ):
        with pytest.raises(IclError, match=r"With these parameters the method .* by default, or"):
            check_model(method, validate(method, params), Embedding())


def test_a_method_of_ones_own_that_says_nothing_looks_into_the_model() -> None:
    from icl.learners.base import Learner

    assert Learner.needs({}) == {"weights"}


def test_no_model_is_told_where_one_is_needed() -> None:
    with pytest.raises(IclError, match="'prototypes' needs a model; give one, such as 'packaged:"):
        make("prototypes", {}, None)
    make("majority", {}, None)
