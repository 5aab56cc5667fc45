"""Learners in scikit-learn's hands: its own checks, pipelines, cross-validation, searches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_is_fitted, validate_data

from icl.errors import IclError
from icl.sklearn import FewShotClassifier
from tests import tiny, tiny_encoders
from tests.learners import problems

TEXTS = [text for texts in problems.TEXTS.values() for text in texts]
KINDS = [kind for kind, texts in problems.TEXTS.items() for _ in texts]


class OfNumbers(FewShotClassifier):
    """The same classifier on rows of numbers written as words, for checks that know no texts."""

    def fit(self, X: Any, y: Any) -> OfNumbers:
        X, y = validate_data(self, X, y, dtype=float)
        super().fit(self._written(X), y)
        return self

    def predict_log_proba(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return super().predict_log_proba(self._written(validate_data(self, X, reset=False)))

    def _written(self, X: Any) -> list[str]:
        return [" ".join(f"f{i}is{int(np.floor(2 * v)) + 500}" for i, v in enumerate(row))
                for row in np.asarray(X, dtype=float)]  # fmt: skip

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        return tags


def test_scikit_learn_finds_no_fault_with_it_as_a_classifier_of_texts() -> None:
    results = check_estimator(FewShotClassifier(method="tfidf"), on_fail=None)
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


def test_every_check_for_classifiers_passes_when_numbers_are_written_as_words() -> None:
    estimator = OfNumbers(method="tfidf", params={"characters": 0})
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 50
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


@pytest.mark.parametrize("method", ["prototypes", "logistic", "knn", "snail", "head-finetuning"])
def test_it_gives_what_the_learner_gives(method: str) -> None:
    encoder = tiny_encoders.encoder()
    model = FewShotClassifier(method=method, model=encoder).fit(TEXTS, KINDS)
    assert model.classes_.tolist() == sorted(set(KINDS))
    own = model.learner_.adapt(
        [problems.example(kind, i) for kind in problems.NAMES for i in range(6)],
        problems.labels(tuple(sorted(problems.NAMES))),
    ).log_probs([{"text": text} for text in TEXTS])
    np.testing.assert_allclose(model.predict_log_proba(TEXTS), own.numpy(), atol=1e-4)
    assert (model.predict(TEXTS) == model.classes_[own.argmax(1)]).all()
    np.testing.assert_allclose(model.predict_proba(TEXTS).sum(1), 1, atol=1e-5)


def test_a_language_model_reads_the_template_and_the_words() -> None:
    words = {"month": " Monat", "weekday": "day", "organ": "organ"}
    common: dict[str, Any] = {"method": "zero-shot", "model": tiny.backbone()}
    plain = FewShotClassifier(**common).fit(TEXTS, KINDS)
    other = FewShotClassifier(**common, words=words, template="{{ text }} is a").fit(TEXTS, KINDS)
    assert not np.allclose(plain.predict_proba(TEXTS), other.predict_proba(TEXTS), atol=1e-3)


def test_it_stands_in_pipelines_cross_validation_and_searches() -> None:
    encoder = tiny_encoders.encoder()
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, FewShotClassifier(method="prototypes", model=encoder))
    folds = StratifiedKFold(3)
    scores = cross_val_score(pipeline, TEXTS, KINDS, cv=folds)
    assert scores.shape == (3,) and (scores >= 0).all() and (scores <= 1).all()
    grid = {"method": ["prototypes", "knn"], "params": [{}, {"temperature": 0.5}]}
    search = GridSearchCV(FewShotClassifier(model=encoder), grid, cv=folds).fit(TEXTS, KINDS)
    assert search.best_estimator_.predict(TEXTS).shape == (18,)


def test_a_clone_shares_the_model_and_is_not_fitted() -> None:
    encoder = tiny_encoders.encoder()
    fitted = FewShotClassifier(model=encoder).fit(TEXTS, KINDS)
    copy = clone(fitted)
    assert copy.model is encoder
    with pytest.raises(NotFittedError):
        copy.predict(TEXTS)


def test_classes_may_be_numbers_and_tables_are_joined() -> None:
    table = pd.DataFrame({"title": TEXTS, "body": TEXTS})
    numbers = np.array([3 * len(kind) for kind in KINDS])
    model = FewShotClassifier(method="tfidf").fit(table, numbers)
    assert set(model.predict(table)) <= set(numbers)
    joined = [f"{text}\n{text}" for text in TEXTS]
    assert (model.predict(joined) == model.predict(table)).all()


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ("one text", "X is one string"),
        ([], "0 sample"),
        ([1.0, 2.0], "Sample 0 of X is float, not text"),
        (["a"], "X has 1 samples and y has 2"),
    ],
)
def test_what_is_not_text_is_refused_in_one_sentence(texts: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FewShotClassifier(method="tfidf").fit(texts, [0, 1])


def test_an_unknown_method_or_parameter_suggests_the_nearest() -> None:
    with pytest.raises(IclError, match="Did you mean 'prototypes'"):
        FewShotClassifier(method="prototype").fit(TEXTS, KINDS)
    with pytest.raises(IclError, match="Did you mean 'temperature'"):
        FewShotClassifier(params={"temprature": 1}).fit(TEXTS, KINDS)


def test_a_methods_own_words_are_by_the_class_and_never_lost() -> None:
    given = (["January", "Montag"], ["month", "weekday"])
    words = {"month": "mensis", "weekday": "dies"}

    def scores(**params: Any) -> Any:
        return FewShotClassifier(**params).fit(*given).predict_log_proba(["organ"])

    shared = {"method": "in-context", "model": tiny.backbone()}
    named = scores(**shared, params={"words": "name"})
    np.testing.assert_array_equal(named, scores(**shared))
    own = scores(**shared, params={"words": words})
    np.testing.assert_array_equal(own, scores(**shared, words=words))
    assert np.abs(own - named).max() > 1e-6
    with pytest.raises(IclError, match=r"names 'monht'.*'month'"):
        scores(**shared, params={"words": {"monht": "x"}})
