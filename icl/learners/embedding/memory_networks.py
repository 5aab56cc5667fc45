"""Model-based learners: networks that read the support set and answer, with nothing else to fit.

SNAIL (Mishra et al. 2018, arXiv 1707.03141) and MANN (Santoro et al. 2016, arXiv 1605.06065).
Labels are shown as one-hot columns, permuted by lot in each training episode: what a column means
can then only be known from the support set. Columns beyond the ways of training are never
filled: tasks with more labels are refused.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from icl.errors import IclError
from icl.learners.embedding.episodic import EpisodicLearner, EpisodicParams, Net
from icl.learners.embedding.heads.fitted import Fitted


class MemoryParams(EpisodicParams):
    """The representation, and the sizes that the network is made for.

    Attributes:
        most_ways: the most labels that a task may have.
        most_examples: the most support examples that it may have.
        inputs: embeddings are mapped to so many numbers first.
    """

    most_ways: int = Field(default=10, ge=2)
    most_examples: int = Field(default=100, ge=1)
    inputs: int = Field(default=64, ge=1)


class _MemoryNet(Net):
    """What both networks share: inputs of an embedding and a label, and a check of their sizes."""

    out: nn.Linear  # to a score for each of `most_ways` columns

    def __init__(self, width: int, params: MemoryParams) -> None:
        super().__init__(width, params)
        self._most_ways = params.most_ways
        self._most_examples = params.most_examples
        self.enter = nn.Linear(width, params.inputs)

    def check(self, ways: int) -> None:
        """Refuse labels whose columns training never filled; their biases are still zero."""
        trained = int((self.out.bias != 0).sum())
        if 0 < trained < ways:
            raise IclError(
                f"The learner was trained with {trained} labels a task and this one has {ways}; set"
                f" `training.ways` to {ways} or more and train anew."
            )

    def _inputs(self, vectors: Tensor) -> Tensor:
        # unit vectors have tiny entries; the map wants numbers of a usual size
        return self.enter(vectors * self.width**0.5).tanh()  # type: ignore[no-any-return]

    def _labels(self, wanted: Tensor, ways: int) -> Tensor:
        if ways > self._most_ways:
            raise IclError(
                f"The learner was made for {self._most_ways} labels and the task has {ways}; set"
                f" `most_ways` to {ways} or more."
            )
        if wanted.shape[1] > self._most_examples:
            raise IclError(
                f"The learner was made for {self._most_examples} support examples and the task has"
                f" {wanted.shape[1]}; set `most_examples` higher."
            )
        return nn.functional.one_hot(wanted, self._most_ways).float()


class SNAILParams(MemoryParams):
    """Sizes of the blocks, as in the paper's Omniglot network but smaller.

    Attributes:
        filters: of each dense block.
        keys, values: of the attention blocks.
    """

    filters: int = Field(default=24, ge=1)
    keys: int = Field(default=32, ge=1)
    values: int = Field(default=32, ge=1)


Pair = tuple[Tensor, Tensor]


class _DenseBlock(nn.Module):
    """A gated causal convolution of width two, appended to its input (figure 2a).

    Blocks take the pairs of a task, shape (tasks, n, channels), and its queries, (tasks, q,
    channels), each of which stands alone after the last pair: as all is causal, the pairs are
    computed once for all queries.
    """

    def __init__(self, inputs: int, filters: int, dilation: int) -> None:
        super().__init__()
        self._dilation = dilation
        self.filter = nn.Linear(2 * inputs, filters)
        self.gate = nn.Linear(2 * inputs, filters)

    def forward(self, both: Pair) -> Pair:
        x, last = both
        padded = nn.functional.pad(x, (0, 0, self._dilation, 0))
        before = padded[:, x.shape[1], None].expand_as(last)
        return self._appended(padded[:, : x.shape[1]], x), self._appended(before, last)

    def _appended(self, earlier: Tensor, x: Tensor) -> Tensor:
        seen = torch.cat([earlier, x], -1)
        return torch.cat([x, self.filter(seen).tanh() * self.gate(seen).sigmoid()], -1)


class _AttentionBlock(nn.Module):
    """Causal attention with one head, appended to its input (figure 2c)."""

    def __init__(self, inputs: int, keys: int, values: int) -> None:
        super().__init__()
        self._scale = keys**-0.5
        self.query = nn.Linear(inputs, keys)
        self.key = nn.Linear(inputs, keys)
        self.value = nn.Linear(inputs, values)

    def forward(self, both: Pair) -> Pair:
        x, last = both
        keys, values = self.key(x).transpose(1, 2), self.value(x)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = (self.query(x) @ keys * self._scale).masked_fill(later, -torch.inf)
        asked = self.query(last)
        itself = (asked * self.key(last)).sum(-1, keepdim=True)
        shares = (torch.cat([asked @ keys, itself], -1) * self._scale).softmax(-1)
        read = shares[..., :-1] @ values + shares[..., -1:] * self.value(last)
        return torch.cat([x, scores.softmax(-1) @ values], -1), torch.cat([last, read], -1)


class _SNAILNet(_MemoryNet):
    def __init__(self, width: int, params: SNAILParams) -> None:
        super().__init__(width, params)
        channels = params.inputs + params.most_ways
        blocks: list[nn.Module] = []
        levels = math.ceil(math.log2(params.most_examples + 1))
        for part in range(3):
            blocks.append(_AttentionBlock(channels, params.keys, params.values))
            channels += params.values
            for level in range(levels if part < 2 else 0):
                blocks.append(_DenseBlock(channels, params.filters, 2**level))
                channels += params.filters
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(channels, params.most_ways)

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        pairs = torch.cat([self._inputs(support), self._labels(wanted, ways)], -1)
        return Fitted(self._answer, (pairs, torch.ones(len(support), ways)))

    def _answer(self, queries: Tensor, pairs: Tensor, columns: Tensor) -> Tensor:
        """Let each query, without a label, stand after its task's pairs; read at its place."""
        last = nn.functional.pad(self._inputs(queries), (0, self._most_ways))
        _, read = self.blocks((pairs, last))
        scores: Tensor = self.out(read)
        return scores[..., : columns.shape[1]]


class SNAIL(EpisodicLearner):
    """Attention and dilated causal convolutions over (example, label) pairs and the query."""

    method = "snail"
    trains_columns = True
    Params = SNAILParams
    network = _SNAILNet


class MANNParams(MemoryParams):
    """Sizes of controller and memory.

    Attributes:
        controller: hidden units of the LSTM.
        slots, cell: rows of the memory and their width (the paper's are 128 and 40).
        reads: read heads (the paper's are 4).
        decay: of the usage weights (gamma).
        offset: show each example with the label of the one before, as the paper does; otherwise
            with its own, and the query with none.
    """

    controller: int = Field(default=64, ge=1)
    slots: int = Field(default=64, ge=2)
    cell: int = Field(default=32, ge=1)
    reads: int = Field(default=2, ge=1)
    decay: float = Field(default=0.95, gt=0, lt=1)
    offset: bool = False


class _MANNNet(_MemoryNet):
    """An LSTM whose memory is written to the place least recently used, or the one last read."""

    def __init__(self, width: int, params: MANNParams) -> None:
        super().__init__(width, params)
        self._params = params
        found = params.reads * params.cell
        self.cell = nn.LSTMCell(params.inputs + params.most_ways + found, params.controller)
        self.keys = nn.Linear(params.controller, found)
        self.interpolate = nn.Parameter(torch.zeros(params.reads))
        self.out = nn.Linear(params.controller + found, params.most_ways)

    def fit(self, support: Tensor, wanted: Tensor, ways: int) -> Fitted:
        labels = self._labels(wanted, ways)
        none = torch.zeros_like(labels[:, 0])
        shown = [none, *labels.unbind(1)] if self._params.offset else [*labels.unbind(1), none]
        state = self._blank(len(support))
        for x, label in zip(self._inputs(support).unbind(1), shown, strict=False):
            _, state = self._step(torch.cat([x, label], -1), state)
        columns = torch.ones(len(support), ways)
        return Fitted(self._answer, (shown[-1], columns, *state))

    def _answer(self, queries: Tensor, label: Tensor, columns: Tensor, *state: Tensor) -> Tensor:
        """Let each query read the memory as the support set left it."""
        tasks, count = queries.shape[:2]
        x = self._inputs(queries).flatten(0, 1)
        own = [s.repeat_interleave(count, 0) for s in (label, *state)]
        read, _ = self._step(torch.cat([x, own[0]], -1), tuple(own[1:]))
        scores: Tensor = self.out(read).view(tasks, count, -1)
        return scores[..., : columns.shape[1]]

    def _blank(self, tasks: int) -> tuple[Tensor, ...]:
        """Return hidden and cell state, memory, what was read, read weights, usage."""
        p = self._params
        return (
            torch.zeros(tasks, p.controller),
            torch.zeros(tasks, p.controller),
            torch.full((tasks, p.slots, p.cell), 1e-6),
            torch.zeros(tasks, p.reads * p.cell),
            torch.zeros(tasks, p.reads, p.slots),
            torch.zeros(tasks, p.slots),
        )

    def _step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Take one step of equations 2 to 8: returns what the output layer sees, and the state."""
        p = self._params
        hidden, inner, memory, found, reading, usage = state
        hidden, inner = self.cell(torch.cat([x, found], -1), (hidden, inner))
        keys = self.keys(hidden).tanh().view(len(x), p.reads, p.cell)
        # the slots least used: one a read head, wiped before they are written (eq. 6)
        least = usage.argsort(dim=-1, stable=True)[:, : p.reads]
        free = nn.functional.one_hot(least, p.slots).float()
        share = self.interpolate.sigmoid()[:, None]
        writing = share * reading + (1 - share) * free  # eq. 7
        wiped = memory * (1 - free[:, 0, :, None])
        memory = wiped + writing.transpose(1, 2) @ keys  # eq. 8
        unit = nn.functional.normalize
        similar = unit(keys, dim=-1, eps=1e-6) @ unit(memory, dim=-1, eps=1e-6).transpose(1, 2)
        reading = (similar * p.cell**0.5).softmax(-1)  # eq. 3; sharper, since cosines are small
        found = (reading @ memory).flatten(1)  # eq. 4
        usage = p.decay * usage + reading.sum(1) + writing.sum(1)  # eq. 5
        return torch.cat([hidden, found], -1), (hidden, inner, memory, found, reading, usage)


class MANN(EpisodicLearner):
    """A memory-augmented network with least recently used access.

    The support set is read once, one example a step; each query then reads the memory that it left.
    """

    method = "mann"
    trains_columns = True
    Params = MANNParams
    network = _MANNNet
