"""Prompt studies: decomposition by least squares, the F test as defined, honest choices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f

from icl.errors import IclError
from icl.evaluation.decomposition import decompose
from icl.evaluation.sensitivity import Sensitivity, sensitivity
from icl.runs.record import Cost, EpisodeRecord

NAMES = ("template", "order", "shots")


def residual(cells: np.ndarray, factors: list[tuple[int, ...]]) -> float:
    """The sum of squares that least squares on dummies of these factors' levels leaves."""
    rows = list(product(*map(range, cells.shape)))
    columns = [np.ones(len(rows))]
    for axes in factors:
        for levels in product(*(range(cells.shape[a]) for a in axes)):
            chosen = dict(zip(axes, levels, strict=True))
            columns.append(
                np.array([float(all(row[a] == chosen[a] for a in axes)) for row in rows])
            )
    design, values = np.stack(columns, 1), cells.reshape(-1)
    return float(((values - design @ np.linalg.lstsq(design, values, rcond=None)[0]) ** 2).sum())


@settings(max_examples=15, deadline=None)
@given(st.tuples(st.integers(2, 3), st.integers(1, 3), st.integers(2, 3)), st.integers(0, 99))
def test_shares_are_what_least_squares_gains_from_a_factor(shape, seed) -> None:  # type: ignore[no-untyped-def]
    values = np.random.default_rng(seed).random((*shape, 4))
    cells = values.mean(-1)
    effects, rest = decompose(values, NAMES)
    total = residual(cells, [])
    axis = {name: i for i, name in enumerate(NAMES)}
    for effect in effects:
        axes = tuple(axis[name] for name in effect.factors)
        singles = [(a,) for a in axes]
        before = residual(cells, singles if len(axes) > 1 else [])
        gained = before - residual(cells, [*singles, axes])
        assert effect.share == pytest.approx(gained / total, abs=1e-9)
    assert sum(effect.share for effect in effects) + rest == pytest.approx(1)
    assert len(effects) == (6 if shape[1] > 1 else 3)


def test_the_f_test_is_that_of_repeated_measures() -> None:
    values = np.random.default_rng(1).random((3, 1, 6)) + np.array([0, 0.2, 0.4])[:, None, None]
    (effect,), rest = decompose(values, ("template", "order"))
    table = values[:, 0]
    level, episode = table.mean(1), table.mean(0)
    between = 6 * ((level - table.mean()) ** 2).sum() / 2
    left = table - level[:, None] - episode[None] + table.mean()
    noise = (left**2).sum() / (2 * 5)
    assert effect.p == pytest.approx(f.sf(between / noise, 2, 10))
    assert effect.luck == pytest.approx(2 * noise / 6 / ((level - table.mean()) ** 2).sum())
    assert (effect.share, rest) == (pytest.approx(1), pytest.approx(0))


def test_a_factor_without_effect_is_rarely_found_and_gets_the_share_of_luck() -> None:
    generator, found, shares, lucks = np.random.default_rng(0), 0, [], []
    for _ in range(300):
        values = generator.random((3, 2, 8))
        effects, _ = decompose(values, ("a", "b"))
        effect = next(e for e in effects if e.factors == ("a",))
        assert effect.p is not None
        assert effect.luck is not None
        found += effect.p < 0.05
        shares.append(effect.share)
        lucks.append(effect.luck)
    assert found <= 21  # Holm over two: at most 5 %, 15; sd 3.8
    assert np.mean(shares) == pytest.approx(0.4, abs=0.05)  # 2 of 5 degrees of freedom


def test_equal_prompts_explain_nothing() -> None:
    effects, rest = decompose(np.full((2, 2, 3), 0.5), ("a", "b"))
    assert all(effect.share == 0 for effect in effects)
    assert rest == 0


PROMPTS = {
    f"{a} · {b}": {"template": a, "order": b} for a, b in product(("task", "arrow"), ("x", "y"))
}


def record(prompt: str, split: str, index: int, shots: int, right: int) -> EpisodeRecord:
    gold = (0,) * 10
    guessed = tuple(0 if i < right else 1 for i in range(10))
    return EpisodeRecord(
        learner=prompt, method="in-context", learner_key=prompt, task="t", setting="prompts",
        fingerprint=f"{split}-{index}-{shots}", split=split, index=index, ways=2, shots=shots,
        support_language="en", query_language="en", labels=("a", "b"),
        query_ids=tuple(f"{split}{index}-{i}" for i in range(10)),
        parallel_ids=tuple(f"{split}{index}-{i}" for i in range(10)),
        log_probs=((-0.5, -1.0),) * 10, predictions=guessed, gold=gold,
        cost=Cost(1, 1, 0.0, 0.0, 0),
    )  # fmt: skip


def study(right: Callable[[str, str, int, int], int]) -> Sensitivity:
    records = [
        record(prompt, split, index, shots, right(prompt, split, index, shots))
        for prompt in PROMPTS
        for split, count in (("validation", 3), ("test", 4))
        for index in range(count)
        for shots in (1, 4)
    ]
    return sensitivity(records, PROMPTS, validation="validation", test="test")


def test_the_best_prompt_is_chosen_on_validation_and_measured_on_test() -> None:
    def right(prompt: str, split: str, index: int, shots: int) -> int:
        if split == "validation":
            return 9 if prompt == "arrow · x" else 5
        return {"task · x": 6, "task · y": 8, "arrow · x": 4, "arrow · y": 5}[prompt]

    found = study(right)
    for choice in found.choices:
        assert choice.prompt == "arrow · x"
        assert choice.validation.mean == pytest.approx(0.9)
        assert choice.test.mean == pytest.approx(0.4)
        assert choice.default.mean == pytest.approx(0.6)
        assert choice.difference.mean == pytest.approx(-0.2)
        assert choice.hindsight == pytest.approx(0.8)
        assert choice.test.low < 0.4 < choice.test.high
    assert [s.lowest for s in found.spreads] == [pytest.approx(0.4)] * 2
    assert found.default == "task · x"
    assert (found.prompts, found.validation_episodes, found.test_episodes) == (4, 3, 4)
    by_level = {(v.factor, v.level): v.accuracy for v in found.levels}
    assert by_level["template", "task"] == pytest.approx(0.7)
    assert by_level["order", "y"] == pytest.approx(0.65)
    assert by_level["shots", "4"] == pytest.approx(0.575)


def test_of_prompts_that_are_equal_on_validation_the_default_is_kept() -> None:
    found = study(lambda prompt, split, index, shots: 5 + index % 2)
    assert all(choice.prompt == found.default for choice in found.choices)
    assert all(choice.difference.mean == 0 for choice in found.choices)


def test_an_unfinished_study_is_told() -> None:
    records = [record(p, s, 0, 1, 5) for p in list(PROMPTS)[:3] for s in ("validation", "test")]
    with pytest.raises(IclError, match="run the study again"):
        sensitivity(records, PROMPTS, validation="validation", test="test")
