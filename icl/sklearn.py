"""Learners as scikit-learn estimators: `FewShotClassifier`.

>>> from icl.sklearn import FewShotClassifier
>>> FewShotClassifier(method="tfidf").fit(["good day", "bad day"], [1, 0]).predict(["good"])
array([1])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from icl.errors import IclError, did_you_mean
from icl.learners.base import checked_scores
from icl.learners.registry import make, needs, validate
from icl.prompting.verbalisers import check_named
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template, template_fields
from icl.tasks.words import clash

if TYPE_CHECKING:
    from icl.models.base import Model


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Any learner of icl as a classifier of texts.

    `fit` is adaptation: the training data are the support set. What is predicted for a text does
    not depend on the texts beside it, but for transductive methods.

    Args:
        method: a method's name, see `icl.learners.registry.methods`. A method that is meta-trained
            stands here where its training would start.
        model: a Hub id, a directory, a packaged model, or a loaded `Model`. Not used by
            methods that need none, such as ``tfidf``.
        params: the method's own parameters.
        template: the input part of the prompt, with ``{{ text }}``, for methods that read one.
        words: class -> the word that stands for it in prompts; by default the class as text.

    Attributes:
        classes_: the classes, sorted.
        learner_: the learner behind.
        predictor_: what adaptation gave.
    """

    def __init__(
        self,
        method: str = "prototypes",
        model: str | Model = "packaged:all-minilm-l6-v2",
        params: Mapping[str, Any] | None = None,
        template: str = "Text: {{ text }}\nLabel:",
        words: Mapping[Any, str] | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.params = params
        self.template = template
        self.words = words

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> FewShotClassifier:  # noqa: N803
        """Adapt to labelled texts.

        Args:
            X: texts: a sequence of strings, or a table of strings whose columns are joined.
            y: their classes.

        Raises:
            ValueError: X is not of texts, or X and y do not fit together.
            IclError: an unknown method, model or parameter, words that name no class or that
                cannot be told apart, or a template that does not show the text.
        """
        texts = as_texts(X)
        check_classification_targets(y)
        wanted = np.asarray(y).ravel()
        if len(texts) != len(wanted):
            raise ValueError(f"X has {len(texts)} samples and y has {len(wanted)}.")
        params = validate(self.method, self.params or {})
        self.classes_ = np.unique(wanted)
        names = tuple(map(str, self.classes_.tolist()))
        self._labels = Labels(names, self._words(), self._template())
        check_named(getattr(params, "words", None), names)
        params.check_task(self._labels, ())
        columns = np.searchsorted(self.classes_, wanted)
        support = [
            Example(f"fit/{i}", {"text": text}, names[column], "und", f"fit/{i}")
            for i, (text, column) in enumerate(zip(texts, columns.tolist(), strict=True))
        ]
        self.learner_ = make(self.method, self.params or {}, self._backbone())
        self.predictor_ = self.learner_.adapt(support, self._labels)
        return self

    def predict_log_proba(self, X: Sequence[str]) -> np.ndarray:  # noqa: N803
        """Return log-probabilities, shape (texts, classes), in the order of `classes_`.

        Raises:
            IclError: some are not numbers, so that no class is the most probable.
        """
        check_is_fitted(self)
        texts = as_texts(X)
        fields = [{"text": text} for text in texts]
        found: np.ndarray = checked_scores(self.learner_, self.predictor_, fields).numpy()
        return found

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:  # noqa: N803
        """Return probabilities, shape (texts, classes), in the order of `classes_`."""
        found: np.ndarray = np.exp(self.predict_log_proba(X))
        return found

    def predict(self, X: Sequence[str]) -> np.ndarray:  # noqa: N803
        """Return each text's most probable class."""
        best = self.predict_log_proba(X).argmax(1)
        found: np.ndarray = self.classes_[best]
        return found

    def _words(self) -> tuple[str, ...]:
        """Return each class's word; raises `IclError` for words of no class, or of two."""
        classes = self.classes_.tolist()
        for name in self.words or {}:
            if name not in classes:
                hint = did_you_mean(str(name), map(str, classes))
                raise IclError(f"`words` names {name!r}, which is no class of y.{hint}")
        words = [str((self.words or {}).get(c, c)) for c in classes]
        same = clash(dict(zip(map(str, classes), words, strict=True)))
        if same is not None:
            raise IclError(f"{same}; give each class a word of its own in `words`.")
        return tuple(words)

    def _template(self) -> Template:
        """Return the prompt's template; raises `IclError` where it does not show the text."""
        shown = template_fields(self.template)
        if shown != {"text"}:
            known = ", ".join(sorted(shown)) or "no field"
            raise IclError(f"`template` shows {known}; let it show {{{{ text }}}} and no other.")
        return Template(input=self.template)

    def _backbone(self) -> Any:
        if not needs(self.method, validate(self.method, self.params or {})):
            return None
        return _loaded(self.model) if isinstance(self.model, str) else self.model

    def __sklearn_clone__(self) -> FewShotClassifier:
        """Return an unfitted copy that shares a loaded backbone, which never changes."""
        return type(self)(**self.get_params(deep=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def as_texts(X: Any) -> list[str]:  # noqa: N803
    """Return samples as texts; a table's columns are joined by newlines, as fields are.

    Raises:
        ValueError: there are none, or some are not text.
    """
    if isinstance(X, str):
        raise ValueError("X is one string; give a sequence of texts.")
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()  # noqa: N806
    rows = X.tolist() if isinstance(X, np.ndarray) else list(X)
    texts = ["\n".join(row) if _is_row(row) else row for row in rows]
    if not texts:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"Sample {i} of X is {type(text).__name__}, not text.")
    return texts


def _is_row(row: Any) -> bool:
    return isinstance(row, list | tuple) and all(isinstance(part, str) for part in row)


@lru_cache(maxsize=2)
def _loaded(name: str) -> Model:
    from icl.models.loading.own_model import load_model

    return load_model(name)
