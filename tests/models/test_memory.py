"""Label scores under a memory budget: batches shrink, scores do not change."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from icl.models.memory import bytes_per_row
from icl.models.scoring.scorer import label_scores
from tests import tiny

PREFIX = "Word: May\nKind: month\n\n"
PROMPTS = [f"{PREFIX}Word: {word}\nKind:" for word in ("Juni", "Montag", "organ", "cat", "mat")]
ANSWERS = [" month", " weekday"]


def test_a_small_budget_makes_more_passes_and_gives_the_same_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = tiny.backbone()
    whole = label_scores(backbone, PROMPTS, ANSWERS)
    at_once = backbone.meter.computed_tokens
    hidden, rows = backbone.hidden, []

    def watched(layout: Any, **kwargs: Any) -> torch.Tensor:
        rows.append(layout.rows)
        return hidden(layout, **kwargs)

    monkeypatch.setattr(backbone, "hidden", watched)
    backbone.memory_budget = 30 * bytes_per_row(backbone.model)
    torch.testing.assert_close(label_scores(backbone, PROMPTS, ANSWERS), whole, atol=1e-5, rtol=0)
    assert len(rows) > 1
    assert max(rows) <= 30
    assert backbone.meter.computed_tokens == 2 * at_once  # nothing was computed twice


def test_running_out_of_memory_halves_the_waves_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = tiny.backbone()
    whole = label_scores(backbone, PROMPTS, ANSWERS)
    room = backbone.meter.computed_tokens - 1  # one row fewer than all prompts together take
    hidden, tried = backbone.hidden, []

    def scarce(layout: Any, **kwargs: Any) -> torch.Tensor:
        tried.append(layout.rows)
        if layout.rows > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(layout, **kwargs)

    monkeypatch.setattr(backbone, "hidden", scarce)
    with pytest.warns(UserWarning, match=r"Memory ran out on \d+ tokens at once"):
        scores = label_scores(backbone, PROMPTS, ANSWERS)
    torch.testing.assert_close(scores, whole, atol=1e-5, rtol=0)
    first = len(tried)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the lesson is remembered
        label_scores(backbone, PROMPTS, ANSWERS)
    assert max(tried[first:]) <= room


def test_one_prompt_that_does_not_fit_is_an_error_not_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = tiny.backbone()

    def never(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backbone, "hidden", never)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning):
        label_scores(backbone, PROMPTS, ANSWERS)


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny.backbone()

    def broken(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(backbone, "hidden", broken)
    with pytest.raises(RuntimeError, match="size mismatch"):
        label_scores(backbone, PROMPTS, ANSWERS)
