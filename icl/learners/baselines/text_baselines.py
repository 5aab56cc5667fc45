"""Baselines without a language model: a weighted die, and words counted as in the last century."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from icl.learners.base import LOG_ZERO, Choices, Params, Predictor
from icl.learners.baselines.without_model import WithoutModel
from icl.learners.support import in_order, present_columns, uniform
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields


class StratifiedParams(Params):
    """The die's seed."""

    seed: int = 0


class _Die(Predictor):
    def __init__(self, shares: dict[str, float], labels: Labels, seed: int) -> None:
        self._shares = shares
        self._labels = labels
        self._seed = seed

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        names = sorted(self._shares)
        shares = torch.tensor([self._shares[name] for name in names], dtype=torch.float64)
        rows = []
        for fields in texts:
            text = "\0".join([str(self._seed), *names, *fields.values()])
            lot = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
            drawn = int((shares.cumsum(0) <= lot).sum().clamp(max=len(names) - 1))
            # half the mass by frequency, half on the label that was drawn: the draw always wins
            row = shares / 2
            row[drawn] += 0.5
            by_name = dict(zip(names, row.tolist(), strict=True))
            rows.append([by_name.get(name, 0.0) for name in self._labels.names])
        return torch.tensor(rows).log().clamp_min(LOG_ZERO)


class Stratified(WithoutModel):
    """Guess at random, each label as often as it stands in the support set.

    A query's lot depends on its text and the seed alone, so a guess repeats.
    """

    method = "stratified"
    Params = StratifiedParams

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Count the support labels; without support, all are alike."""
        counts = Counter(example.label for example in support) or Counter(labels.names)
        shares = {name: count / counts.total() for name, count in counts.items()}
        return _Die(shares, labels, self._params.seed)


class TfidfParams(Params):
    """Word and character n-grams, and logistic regression's C.

    Attributes:
        words: longest word n-gram, in words.
        characters: longest character n-gram within words, from 2 on; 0 for none.
        C: inverse strength of the L2 penalty.
    """

    words: int = Field(default=1, ge=1)
    characters: int = Field(default=4, ge=0)
    C: float = Field(default=10.0, gt=0)


class _Counting(Predictor):
    def __init__(self, pipeline: Any, labels: Labels, columns: Sequence[int]) -> None:
        self._pipeline = pipeline
        self._labels = labels
        self._columns = list(columns)
        classifier = pipeline[-1]
        self.trained_parameters = classifier.coef_.size + classifier.intercept_.size

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        known = self._pipeline.predict_log_proba(["\n".join(t.values()) for t in texts])
        full = torch.full((len(texts), len(self._labels)), LOG_ZERO)
        full[:, self._columns] = torch.from_numpy(known).float()
        return full.clamp_min(LOG_ZERO)


class Tfidf(WithoutModel):
    """TF-IDF of words and character n-grams with logistic regression: the floor.

    Vocabulary and weights come from the support set alone. scikit-learn does the work.
    """

    method = "tfidf"
    floor = True  # see `icl.evaluation.alarms`
    Params = TfidfParams
    search: ClassVar[Choices] = {
        "C": (1.0, 10.0, 100.0),
        "words": (1, 2),
        "characters": (0, 3, 4, 5),
    }

    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Count and fit; with fewer than two labels in support every label is alike."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        columns = present_columns(support, labels)
        if len(columns) < 2:
            return uniform(labels)
        # every visible character may be a word: scripts without spaces have words of one
        counters = [
            TfidfVectorizer(
                token_pattern=r"(?u)\w+|[^\w\s]", ngram_range=(1, self._params.words),
                sublinear_tf=True,
            )
        ]  # fmt: skip
        if self._params.characters:
            span = (min(2, self._params.characters), self._params.characters)
            counters.append(
                TfidfVectorizer(analyzer="char_wb", ngram_range=span, sublinear_tf=True)
            )
        pipeline = make_pipeline(
            make_union(*counters), LogisticRegression(C=self._params.C, max_iter=2000, tol=1e-7)
        )
        ordered = in_order(support)
        pipeline.fit([e.text for e in ordered], [labels.index(e.label) for e in ordered])
        return _Counting(pipeline, labels, columns)
