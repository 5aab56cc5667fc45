"""SNAIL and MANN against their equations, and the check that only a working memory passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from icl.errors import IclError
from icl.learners.embedding.episodic import Net
from icl.learners.embedding.memory_networks import MANNParams, SNAILParams, _MANNNet, _SNAILNet
from icl.learners.registry import make
from tests import tiny_encoders
from tests.learners import problems

WAYS, WIDTH = 3, 8
SIZES = {"tune": "nothing", "most_ways": 5, "most_examples": 8, "inputs": 24}


def snail() -> Net:
    return _SNAILNet(WIDTH, SNAILParams(**SIZES, filters=12, keys=16, values=16)).seeded(0)


def mann(offset: bool = False) -> Net:
    params = MANNParams(**SIZES, controller=48, slots=8, cell=24, reads=1, offset=offset)
    return _MANNNet(WIDTH, params).seeded(0)


NETS: dict[str, tuple[Callable[[], Net], int]] = {
    "snail": (snail, 100),
    "mann": (mann, 300),
}


def bindings(count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Fresh random vectors with labels permuted in each episode; queries are the same vectors."""

    def orders() -> Tensor:
        return torch.stack([torch.randperm(WAYS, generator=generator) for _ in range(count)])

    symbols = torch.randn(count, WAYS, WIDTH, generator=generator)
    symbols = torch.nn.functional.normalize(symbols, dim=-1)
    labels, asked = orders(), orders()
    queries = symbols.gather(1, asked[..., None].expand(-1, -1, WIDTH))
    return symbols, labels, queries, labels.gather(1, asked)


@pytest.mark.parametrize("name", NETS)
def test_symbols_are_bound_to_labels_that_are_permuted_in_every_episode(name: str) -> None:
    make, steps = NETS[name]
    net, generator = make(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        symbols, labels, queries, wanted = bindings(64, generator)
        loss = net.loss(net.fit(symbols, labels, WAYS).scores(queries), wanted).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    symbols, labels, queries, wanted = bindings(400, generator)
    with torch.no_grad():
        answers = net.fit(symbols, labels, WAYS).scores(queries).argmax(-1)
        # the same support with other labels: the answers must follow them
        turned = net.fit(symbols, (labels + 1) % WAYS, WAYS).scores(queries).argmax(-1)
        # support symbols that have nothing to do with the queries: no better than chance
        blind = net.fit(symbols.roll(1, 0), labels, WAYS).scores(queries).argmax(-1)
    assert float((answers == wanted).float().mean()) > 0.85  # chance is a third
    assert float((turned == (wanted + 1) % WAYS).float().mean()) > 0.85
    assert abs(float((blind == wanted).float().mean()) - 1 / 3) < 0.1


def test_a_query_without_the_memory_is_answered_by_chance() -> None:
    """What MANN knows of a symbol must lie in its memory or in what it read, not in its weights."""
    net, generator = mann(), torch.Generator().manual_seed(0)
    symbols, labels, queries, _ = bindings(50, generator)
    head = net.fit(symbols, labels, WAYS)
    label, columns, *state = head.parameters
    blank = net._blank(len(symbols))  # type: ignore[operator]
    wiped = head.rule(queries, label, columns, *blank)
    assert not torch.allclose(wiped, head.scores(queries), atol=1e-4)
    memory = state[2]
    assert float(memory.abs().sum(-1).gt(1e-3).float().sum(1).min()) >= WAYS  # a slot a symbol


def test_snails_blocks_are_the_papers() -> None:
    net = snail()
    attention, dense = net.blocks[0], net.blocks[2]  # type: ignore[index]
    x = torch.randn(1, 6, attention.query.in_features)
    first, last = x[:, :5], x[:, 5:]
    q, k, v = (layer(x[0]).detach().numpy() for layer in
               (attention.query, attention.key, attention.value))  # fmt: skip
    expected = np.zeros((6, 16))
    for t in range(6):
        weights = np.exp([q[t] @ k[s] / 4 for s in range(t + 1)])
        expected[t] = weights @ v[: t + 1] / weights.sum()
    read = torch.cat(attention((first, last)), 1)[0].detach().numpy()
    np.testing.assert_allclose(read[:, -16:], expected, atol=1e-5)
    np.testing.assert_array_equal(read[:, :-16], x[0].numpy())

    x = torch.randn(1, 6, dense.filter.in_features // 2)
    assert dense._dilation == 2
    out = torch.cat(dense((x[:, :5], x[:, 5:])), 1)[0, :, -12:].detach()
    for t in range(6):
        before = x[0, t - 2] if t >= 2 else torch.zeros_like(x[0, 0])
        both = torch.cat([before, x[0, t]])
        expected_t = dense.filter(both).tanh() * dense.gate(both).sigmoid()
        torch.testing.assert_close(out[t], expected_t.detach(), atol=1e-5, rtol=0)


def test_manns_step_is_equations_2_to_8_of_the_paper() -> None:
    params = MANNParams(**SIZES, controller=10, slots=4, cell=6, reads=2, decay=0.9)
    net = _MANNNet(WIDTH, params)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 24 + 5, generator=generator)
    hidden, inner, memory, found, reading, usage = (
        torch.rand(s.shape, generator=generator) for s in net._blank(1)
    )
    with torch.no_grad():
        seen, after = net._step(x, (hidden, inner, memory, found, reading, usage))
        h, _ = net.cell(torch.cat([x, found], 1), (hidden, inner))
        keys = net.keys(h).tanh().view(2, 6).numpy()
    m, u = memory[0].numpy().copy(), usage[0].numpy()
    least = np.argsort(u, kind="stable")[:2]
    m[least[0]] = 0
    write = np.zeros((2, 4))
    for head in range(2):
        free = np.eye(4)[least[head]]
        share = 1 / (1 + np.exp(-float(net.interpolate.detach()[head])))
        write[head] = share * reading[0, head].numpy() + (1 - share) * free
    for slot in range(4):
        m[slot] += sum(write[head, slot] * keys[head] for head in range(2))
    read = np.zeros((2, 4))
    for head in range(2):
        cosine = [keys[head] @ r / np.linalg.norm(keys[head]) / np.linalg.norm(r) for r in m]
        weights = np.exp(np.array(cosine) * np.sqrt(6))
        read[head] = weights / weights.sum()
    np.testing.assert_allclose(after[2][0].numpy(), m, atol=1e-5)
    np.testing.assert_allclose(after[4][0].numpy(), read, atol=1e-5)
    np.testing.assert_allclose(after[5][0].numpy(), 0.9 * u + read.sum(0) + write.sum(0), atol=1e-5)
    np.testing.assert_allclose(seen[0, 10:].numpy(), (read @ m).ravel(), atol=1e-5)


def test_a_dilation_beyond_the_support_reads_nothing() -> None:
    dense = snail().blocks[4]  # type: ignore[index]
    assert dense._dilation == 8
    x = torch.randn(1, 4, dense.filter.in_features // 2)
    out = torch.cat(dense((x[:, :3], x[:, 3:])), 1)[0, :, -12:]
    both = torch.cat([torch.zeros_like(x[0]), x[0]], -1)
    torch.testing.assert_close(out, dense.filter(both).tanh() * dense.gate(both).sigmoid())


@pytest.mark.parametrize("make", [snail, mann, lambda: mann(offset=True)])
def test_one_query_alone_equals_it_in_a_batch(make: Callable[[], Net]) -> None:
    symbols, labels, queries, _ = bindings(4, torch.Generator().manual_seed(1))
    head = make().fit(symbols, labels, WAYS)
    alone = torch.cat([head.scores(queries[:, i : i + 1]) for i in range(WAYS)], 1)
    torch.testing.assert_close(alone, head.scores(queries), atol=1e-5, rtol=0)
    one = make().fit(symbols[2:3], labels[2:3], WAYS).scores(queries[2:3])
    torch.testing.assert_close(head.task(2).scores(queries[2:3]), one, atol=1e-5, rtol=0)


def test_the_offset_shows_an_example_the_label_of_the_one_before() -> None:
    symbols, labels, queries, _ = bindings(1, torch.Generator().manual_seed(1))
    shown: list[Tensor] = []
    net = mann(offset=True)
    step = net._step  # type: ignore[operator]
    net._step = lambda x, state: (shown.append(x[:, 24:]), step(x, state))[1]  # type: ignore
    net.fit(symbols, labels, WAYS).scores(queries[:, :1])
    assert not shown[0].any()
    assert [int(x.argmax()) for x in shown[1:]] == labels[0].tolist()


@pytest.mark.parametrize("make", [snail, mann])
def test_tasks_beyond_the_networks_size_are_refused(make: Callable[[], Net]) -> None:
    with pytest.raises(IclError, match="made for 5 labels and the task has 6; set `most_ways`"):
        make().fit(torch.randn(1, 6, WIDTH), torch.arange(6)[None], 6)
    with pytest.raises(IclError, match="made for 8 support examples and the task has 9"):
        make().fit(torch.randn(1, 9, WIDTH), torch.zeros(1, 9, dtype=torch.long), 2)


@pytest.mark.parametrize("method", ["snail", "mann"])
def test_labels_beyond_those_of_training_are_refused_and_not_guessed(method: str) -> None:
    learner = make(method, {}, tiny_encoders.encoder())
    two = problems.NAMES[:2]
    few = replace(
        problems.episode(), labels=problems.labels(two), support=tuple(problems.support(2, two)),
        query=tuple(problems.query(two)),
    )  # fmt: skip
    learner.adapt(problems.support(), problems.labels())  # untrained, it guesses among all alike
    optimiser = torch.optim.Adam(learner.trainable_parameters().values())  # type: ignore[attr-defined]
    torch.autograd.backward(learner.meta_loss([few])[0])  # type: ignore[attr-defined]
    optimiser.step()
    learner.adapt(few.support, few.labels)
    with pytest.raises(IclError, match=r"with 2 labels a task and this one has 3; set `training"):
        learner.adapt(problems.support(), problems.labels())
