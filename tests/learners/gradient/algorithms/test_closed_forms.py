"""Every algorithm against its closed form on quadratics, in float64, several tasks at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icl.learners.gradient.algorithms import (
    FOMAML,
    IMAML,
    MAML,
    Adam,
    InnerOptimiser,
    MAMLPlusPlus,
    MetaAlgorithm,
    MetaSGD,
    Momentum,
    Params,
    Problem,
    Reptile,
)
from icl.learners.gradient.algorithms.unroll import hessian_vector
from tests.learners.gradient.algorithms.quadratics import START, Quadratics, flat, unflat

THETA = flat({n: v[None] for n, v in START.items()})[0]
ALPHA = 0.1
TASKS = 3
EYE = torch.eye(5, dtype=torch.float64)


def same(got: Params, expected: Params, tolerance: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=tolerance, rtol=tolerance)


def gradient(algorithm: MetaAlgorithm, q: Quadratics, done: float = 1.0) -> dict[str, Tensor]:
    learned = algorithm.learned(START)
    return dict(algorithm.meta_step(START, learned, q.problem(), done).gradients)


def ends(q: Quadratics, steps: int) -> tuple[Tensor, Tensor]:
    """Return M = (I - alpha H)^K and theta_K by the closed form."""
    m = torch.linalg.matrix_power(EYE - ALPHA * q.h, steps)
    return m, q.a + (m @ (THETA - q.a)[..., None])[..., 0]


seeds = given(seed=st.integers(0, 2**31), steps=st.integers(0, 6))
few = settings(max_examples=15, deadline=None)


@few
@seeds
def test_maml_gradient_is_m_g_theta_k_minus_b(seed: int, steps: int) -> None:
    q = Quadratics.draw(TASKS, seed)
    m, end = ends(q, steps)
    expected = (m @ q.g @ (end - q.b)[..., None])[..., 0].mean(0)
    same(gradient(MAML(steps, ALPHA), q), unflat(expected))


@few
@seeds
def test_fomaml_gradient_is_g_theta_k_minus_b(seed: int, steps: int) -> None:
    q = Quadratics.draw(TASKS, seed)
    _, end = ends(q, steps)
    expected = (q.g @ (end - q.b)[..., None])[..., 0].mean(0)
    same(gradient(FOMAML(steps, ALPHA), q), unflat(expected))


@few
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 6))
def test_reptile_gradient_is_i_minus_m_theta_minus_a_by_alpha(seed: int, steps: int) -> None:
    q = Quadratics.draw(TASKS, seed)
    m, _ = ends(q, steps)
    q = Quadratics(q.h, q.a, q.h, q.a)  # both minibatches have the same loss
    expected = ((EYE - m) @ (THETA - q.a)[..., None])[..., 0].mean(0) / ALPHA
    same(gradient(Reptile(steps, ALPHA), q), unflat(expected), 1e-9)


def test_reptile_takes_support_and_query_in_turn() -> None:
    q = Quadratics.draw(TASKS, 5)
    one = THETA - ALPHA * (q.h @ (THETA - q.a)[..., None])[..., 0]
    two = one - ALPHA * (q.g @ (one - q.b)[..., None])[..., 0]
    same(gradient(Reptile(2, ALPHA), q), unflat((THETA - two).mean(0) / ALPHA), 1e-9)


@few
@given(seed=st.integers(0, 2**31))
def test_meta_sgd_rate_gradient_is_minus_both_gradients_multiplied(seed: int) -> None:
    q = Quadratics.draw(TASKS, seed)
    algorithm = MetaSGD(1, ALPHA, seed=seed)
    rates = algorithm.learned(START)
    rate = torch.cat([rates[f"rate/{n}"].flatten() for n in START])
    inner = (q.h @ (THETA - q.a)[..., None])[..., 0]
    outer = (q.g @ (THETA - rate * inner - q.b)[..., None])[..., 0]
    through = EYE - rate[:, None] * q.h
    expected = unflat((through.mT @ outer[..., None])[..., 0].mean(0))
    expected |= {f"rate/{n}": v for n, v in unflat((-inner * outer).mean(0)).items()}
    same(gradient(algorithm, q), expected)


@few
@given(seed=st.integers(0, 2**31), strength=st.floats(0.5, 5))
def test_imaml_gradient_is_the_implicit_one(seed: int, strength: float) -> None:
    q = Quadratics.draw(TASKS, seed)
    optimum = torch.linalg.solve(
        q.h + strength * EYE, (q.h @ q.a[..., None])[..., 0] + strength * THETA
    )
    outer = (q.g @ (optimum - q.b)[..., None])[..., 0]
    expected = torch.linalg.solve(EYE + q.h / strength, outer).mean(0)
    algorithm = IMAML(300, 0.1, strength=strength, solver_steps=6)
    same(gradient(algorithm, q), unflat(expected), 1e-7)


def test_maml_plus_plus_gradient_is_the_weighted_sum_over_steps() -> None:
    q = Quadratics.draw(TASKS, 1)
    algorithm = MAMLPlusPlus(3, ALPHA, first_order=0.1)
    done = 0.198  # early weights at their floor, second order on
    expected = torch.zeros(5, dtype=torch.float64)
    for steps, weight in ((1, 0.01), (2, 0.01), (3, 0.98)):
        m, end = ends(q, steps)
        expected += weight * (m @ q.g @ (end - q.b)[..., None])[..., 0].mean(0)
    got = gradient(algorithm, q, done)
    same({n: got[n] for n in START}, unflat(expected))
    first = gradient(algorithm, q, 0.0)
    plain = torch.stack(
        [(q.g @ (ends(q, k)[1] - q.b)[..., None])[..., 0].mean(0) for k in (1, 2, 3)]
    ).mean(0)
    same({n: first[n] for n in START}, unflat(plain))


def test_maml_plus_plus_asks_the_queries_once_when_annealing_is_over() -> None:
    """As the reference code does from its `multi_step_loss_num_epochs` on."""
    q = Quadratics.draw(TASKS, 1)
    algorithm = MAMLPlusPlus(3, ALPHA, anneal=0.5, first_order=0.0)
    asked: list[float] = []
    for done in (0.0, 0.49, 0.5, 1.0):
        problem, count = q.problem(), 0

        def query(params: Params) -> Tensor:
            nonlocal count
            count += 1
            return q.query(params)

        counted = Problem(problem.tasks, problem.support, query)
        got = algorithm.meta_step(START, algorithm.learned(START), counted, done).gradients
        asked.append(count)
    assert asked == [3, 3, 1, 1]
    same({n: got[n] for n in START}, gradient(MAML(3, ALPHA), q))


def unrolled(
    algorithm: MetaAlgorithm, q: Quadratics, start: Params, learned: Params, done: float
) -> tuple[Tensor, list[Tensor]]:
    """MAML as a plain loop with one graph, for any inner optimiser."""
    leaves = {n: v.clone().requires_grad_() for n, v in start.items()}
    rates = {n: v.clone().requires_grad_() for n, v in learned.items()}
    point = q.problem().begin(leaves, TASKS)
    state = algorithm.optimiser.begin(point)
    loss = torch.zeros((), dtype=torch.float64)
    for k in range(algorithm.steps):
        found = torch.autograd.grad(q.support(point).sum(), list(point.values()), create_graph=True)
        point, state = algorithm.optimiser.update(
            point,
            dict(zip(point, found, strict=True)),
            state,
            algorithm.rates(rates, k, list(point)),
            k,
        )
        if isinstance(algorithm, MAMLPlusPlus):
            loss = loss + algorithm.weights(done).get(k + 1, 0.0) * q.query(point).mean()
    if not isinstance(algorithm, MAMLPlusPlus):
        loss = q.query(point).mean()
    return loss, list(torch.autograd.grad(loss, [*leaves.values(), *rates.values()]))


@pytest.mark.parametrize("optimiser", [InnerOptimiser(), Momentum(0.8), Adam(), Adam(0.0)])
@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("kind", [MAML, MetaSGD, MAMLPlusPlus])
def test_the_backward_sweep_equals_one_graph_over_all_steps(
    kind: type[MAML], checkpoint: bool, optimiser: InnerOptimiser
) -> None:
    q = Quadratics.draw(TASKS, 2)
    algorithm = kind(steps=4, rate=ALPHA, optimiser=optimiser, checkpoint=checkpoint)
    learned = algorithm.learned(START)
    done = 1.0
    if isinstance(algorithm, MAMLPlusPlus):  # a loss at each step, and second order
        algorithm, done = replace(algorithm, first_order=0.0), 0.1
    step = algorithm.meta_step(START, learned, q.problem(), done)
    loss, expected = unrolled(algorithm, q, START, learned, done)
    torch.testing.assert_close(step.loss, loss.detach())
    for got, value in zip(step.gradients.values(), expected, strict=True):
        torch.testing.assert_close(got, value, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    "algorithm",
    [MAML(3, ALPHA), FOMAML(3, ALPHA), Reptile(3, ALPHA), MetaSGD(3, ALPHA), IMAML(3, ALPHA)],
    ids=lambda a: type(a).__name__,
)
def test_batched_tasks_equal_the_loop_over_tasks(algorithm: MetaAlgorithm) -> None:
    q = Quadratics.draw(TASKS, 3)
    parts = [
        gradient(algorithm, Quadratics(*(v[i : i + 1] for v in (q.h, q.a, q.g, q.b))))
        for i in range(TASKS)
    ]
    mean = {n: torch.stack([p[n] for p in parts]).mean(0) for n in parts[0]}
    same(gradient(algorithm, q), mean)


@pytest.mark.parametrize("kind", [MAML, FOMAML, MetaSGD])
def test_no_steps_give_the_plain_query_loss(kind: type[MAML]) -> None:
    q = Quadratics.draw(TASKS, 4)
    step = kind(0, ALPHA).meta_step(START, kind(0, ALPHA).learned(START), q.problem(), 1.0)
    expected = unflat((q.g @ (THETA - q.b)[..., None])[..., 0].mean(0))
    same({n: step.gradients[n] for n in START}, expected)
    off = (THETA - q.b)[..., None]
    torch.testing.assert_close(step.loss, (off.mT @ q.g @ off / 2).mean())


def test_a_linear_inner_loss_makes_maml_and_fomaml_equal() -> None:
    q = Quadratics.draw(TASKS, 6)
    linear = Problem(TASKS, lambda p: (flat(p) * q.a).sum(1), q.query)
    one, other = (
        kind(3, ALPHA).meta_step(START, {}, linear, 1.0).gradients for kind in (MAML, FOMAML)
    )
    same(one, other)


def test_held_parameters_do_not_move_and_still_get_their_whole_gradient() -> None:
    q = Quadratics.draw(TASKS, 7)
    held = Problem(TASKS, q.support, q.query, moves=lambda name: name == "x")
    algorithm = MAML(3, ALPHA)
    end = algorithm.adapt(START, {}, held)
    assert torch.equal(end["y"], START["y"].expand(TASKS, 2, 1))
    got = algorithm.meta_step(START, {}, held, 1.0).gradients

    def outer(vector: Tensor) -> Tensor:
        point = {n: v.expand(TASKS, *v.shape) for n, v in unflat(vector).items()}
        for _ in range(3):
            (g,) = torch.autograd.grad(q.support(point).sum(), [point["x"]], create_graph=True)
            point = {**point, "x": point["x"] - ALPHA * g}
        return q.query(point).mean()

    leaf = THETA.clone().requires_grad_()
    same(got, unflat(torch.autograd.grad(outer(leaf), [leaf])[0]))


def test_the_hessian_vector_product_is_h_times_v() -> None:
    q = Quadratics.draw(TASKS, 8)
    point = {n: v.expand(TASKS, *v.shape) for n, v in START.items()}
    vector = {n: torch.randn_like(v) for n, v in point.items()}
    got = hessian_vector(q.support, point, vector)
    torch.testing.assert_close(flat(got), (q.h @ flat(vector)[..., None])[..., 0])


@pytest.mark.parametrize("optimiser", [InnerOptimiser(), Momentum(0.9), Adam(0.9), Adam(0.0)])
def test_inner_optimisers_take_the_steps_of_torch(optimiser: InnerOptimiser) -> None:
    q = Quadratics.draw(1, 9)
    leaf = THETA.clone().requires_grad_()
    if isinstance(optimiser, Adam):
        peer: torch.optim.Optimizer = torch.optim.Adam(
            [leaf], ALPHA, (optimiser.beta1, optimiser.beta2)
        )
    else:
        peer = torch.optim.SGD([leaf], ALPHA, getattr(optimiser, "momentum", 0.0))
    for _ in range(5):
        peer.zero_grad()
        torch.autograd.backward(q.support({n: v[None] for n, v in unflat(leaf).items()}).sum())
        peer.step()
    end = MAML(5, ALPHA, optimiser).adapt(START, {}, q.problem())
    torch.testing.assert_close(flat(end)[0], leaf.detach(), atol=1e-7, rtol=0)


def test_adam_has_finite_derivatives_where_the_gradient_is_zero() -> None:
    q = Quadratics.draw(TASKS, 10)
    flat_ground = Problem(TASKS, lambda p: (flat(p) - THETA).pow(4).sum(1), q.query)
    step = MAML(3, ALPHA, Adam()).meta_step(START, {}, flat_ground, 1.0)
    assert all(bool(g.isfinite().all()) for g in step.gradients.values())
