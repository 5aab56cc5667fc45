"""`EpisodeSampler`: N-way K-shot episodes, each a pure function of its index."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from icl.episodes.bulk import draw_many, words_needed
from icl.episodes.cell import Cell, Draw
from icl.episodes.composition import PLAIN, Composition, Plan
from icl.episodes.episode import Episode
from icl.episodes.pool import Pool, build_pool
from icl.episodes.reading import Rows, Shelf
from icl.episodes.setting import WITHIN, Setting
from icl.episodes.splits import check_disjoint
from icl.episodes.stream import Stream, stream_words
from icl.episodes.supply import Supply, at_least, check_words, chosen, supply
from icl.errors import IclError
from icl.tasks.loaded import Task, TaskFamily
from icl.tasks.task import Labels

_CHUNK = 256  # indices drawn at once by `episodes`


class EpisodeSampler:
    """Draws episodes from a meta-split; any process can draw any index, alone and in any order.

    What is drawn for an index depends on the seed, the split, the setting, the index and the
    other arguments, and on nothing else. The rules:

    - Tasks and query languages are dealt evenly: every run of T episodes that starts at a
      multiple of T holds each of the T tasks once, the same holds for languages, and each
      (task, language) pair comes once in T x L episodes.
    - `ways` classes are drawn from those with enough examples; the label order is shuffled, so
      a label's column tells nothing.
    - Queries are spread over the classes as evenly as their number allows; a remainder goes to
      classes drawn at random. The queries of an index are the same for all shots.
    - Support sets are nested: that of K shots is part of that of any more shots, in the same
      relative order, so that curves over shots are paired. Zero shots give an empty support.
    - No two examples of an episode share an id, a parallel id or a normalised text. A text that
      stands under two labels in a pool is never used. With `near`, near-duplicates are kept
      apart as well.
    - The prompt speaks the support language: label words and template are those of the task in
      the support language, also at zero shots, so that one prompt never mixes two templates.

    Args:
        family: where tasks come from.
        split: the meta-split, e.g. ``test``.
        ways: classes in an episode. It is ignored for kinds of tasks that draw none of their
            strata but take all (`icl.tasks.kinds.Kind`): in multiple choice all labels take part,
            since every example shows all options, and shots count examples of each right label;
            where there is one stratum, as in generation, shots and queries count examples.
        shots: the numbers of support examples a class that will be asked for.
        queries: query examples in an episode, over all classes.
        setting: how support and query languages relate. A setting with a support language draws
            its queries from the other languages only.
        tasks: some of the split's tasks; None: all.
        languages: some of the split's languages to draw queries from; None: all.
        composition: how ways, shots and balance vary; the default is plain N-way K-shot. With
            varying ways or shots, `ways` is the least number and `shots` the most.
        pool: further labelled examples, spread over the classes like queries; see `Episode.pool`.
        near: keep texts apart whose character n-grams are at least this similar (see
            `icl.episodes.near.similarity`), as if they were copies; None: exact copies only.
        seed: the experiment's seed.

    Raises:
        IclError: an unknown task or language, a number out of range, a task that has too few
            classes or examples for what was asked, or a split that shares with another what the
            family promises to keep apart.
    """

    def __init__(
        self,
        family: TaskFamily,
        split: str,
        *,
        ways: int,
        shots: Sequence[int],
        queries: int,
        setting: Setting = WITHIN,
        tasks: Sequence[str] | None = None,
        languages: Sequence[str] | None = None,
        composition: Composition = PLAIN,
        pool: int = 0,
        near: float | None = None,
        seed: int = 0,
    ) -> None:
        check_disjoint(family, names_only=True)
        meta = family.split(split)
        self.family = family
        self.split = split
        self.ways = at_least(ways, 1, "ways")
        if not shots:
            raise IclError("Episodes need a number of shots; give a list such as [0, 1, 5].")
        self.shots = tuple(sorted({at_least(k, 0, "shots") for k in shots}))
        self.queries = at_least(queries, 1, "queries")
        self.setting = setting
        self.composition = composition
        if composition.max_ways is not None:
            at_least(composition.max_ways, ways, "max_ways")
        self.pool = at_least(pool, 0, "pool examples")
        self.near = near
        self.seed = seed
        self.tasks = chosen(tasks, meta.tasks, "task", split)
        names = chosen(languages, meta.languages, "language", split)
        self.languages = tuple(n for n in names if n != setting.support_language)
        if not self.languages:
            raise IclError(
                f"The setting {setting.name!r} has {setting.support_language!r} for support and "
                "no other language for queries; name one more under languages."
            )
        key = ["icl", 1, seed, split, setting.name, setting.support_language]
        self._prefix = json.dumps(key)
        self._cycle: tuple[int, list[str], list[str]] = (-1, [], [])
        self._pools: dict[tuple[str, str], Pool] = {}
        self._sources = {
            (task, language): self._build(task, language)
            for task in self.tasks
            for language in self.languages
        }

    def episode(self, index: int, shots: int) -> Episode:
        """Draw the episode of an index: a pure function of the arguments.

        Raises:
            IclError: `shots` is more than the sampler was made for.
        """
        return self._materialise(index, shots, self.draw(index, shots), Shelf())

    def episodes(self, count: int, start: int = 0) -> Iterator[Episode]:
        """Draw `count` indices from `start` on, each at every number of shots, ascending."""
        stop = start + count
        for first in range(start, stop, _CHUNK):
            indices = range(first, min(first + _CHUNK, stop))
            by_shots = [self.draws(indices, shots) for shots in self.shots]
            drawn = [
                (index, shots, draw)
                for index, draws in zip(indices, zip(*by_shots, strict=True), strict=True)
                for shots, draw in zip(self.shots, draws, strict=True)
            ]
            shelf = Shelf(rows for index, _, draw in drawn for rows in self._rows(index, draw))
            for index, shots, draw in drawn:
                yield self._materialise(index, shots, draw, shelf)

    def draw(self, index: int, shots: int) -> Draw:
        """Draw row numbers only: what `episode` turns into examples."""
        if not 0 <= shots <= self.shots[-1]:
            raise IclError(
                f"The sampler was made for up to {self.shots[-1]} shots, not {shots}; list "
                f"{shots} under shots."
            )
        source = self._source(index)
        stream, plan = self._plan(source, index, shots)
        if not self.pool:
            return source.cell.draw(stream, plan.order, plan.queries, plan.support)
        # The pool comes after the largest support, so that it is the same for all shots.
        stream, most = self._plan(source, index, self.shots[-1])
        return source.cell.draw(
            stream, plan.order, plan.queries, most.support, most.pool, len(plan.support)
        )

    def _plan(self, source: Supply, index: int, shots: int) -> tuple[Stream, Plan]:
        stream = Stream(self._key("episode", index))
        plan = self.composition.plan(
            stream,
            source.cell,
            source.eligible,
            ways=source.ways,
            queries=self.queries,
            shots=shots,
            max_shots=self.shots[-1],
            pool=self.pool,
        )
        return stream, plan

    def draws(self, indices: Sequence[int], shots: int) -> list[Draw]:
        """Draw row numbers for many indices at once: equal to the loop over `draw`, faster."""
        if self.pool or not self.composition.plain or not 0 <= shots <= self.shots[-1]:
            return [self.draw(index, shots) for index in indices]
        members: dict[int, tuple[Supply, list[int]]] = {}
        for index in indices:
            source = self._source(index)
            members.setdefault(id(source), (source, []))[1].append(index)
        drawn: dict[int, Draw | None] = {}
        for source, group in members.values():
            words = stream_words(
                [self._key("episode", index) for index in group],
                words_needed(source.ways, self.queries, shots),
            )
            many = draw_many(source.cell, source.eligible, words, source.ways, self.queries, shots)
            drawn.update(zip(group, many, strict=True))
        return [drawn[index] or self.draw(index, shots) for index in indices]

    def pools(self) -> list[Pool]:
        """Return what is drawn from, in the order of first use."""
        return list(self._pools.values())

    def _rows(self, index: int, draw: Draw) -> tuple[Rows, Rows, Rows]:
        cell = self._source(index).cell
        return (
            (cell.support_task.examples, draw.support),
            (cell.query_task.examples, draw.query),
            (cell.support_task.examples, draw.pool),
        )

    def _materialise(self, index: int, shots: int, draw: Draw, shelf: Shelf) -> Episode:
        task, language = self._place(index)
        cell = self._source(index).cell
        support, query, pool = self._rows(index, draw)
        return Episode(
            task=task,
            labels=_labels(cell.support_task, tuple(cell.strata[c] for c in draw.classes)),
            support=shelf.get(*support),
            query=shelf.get(*query),
            seed=self.seed,
            index=index,
            shots=shots,
            split=self.split,
            setting=self.setting.name,
            support_language=self.setting.support_language or language,
            query_language=language,
            pool=shelf.get(*pool),
            kind=cell.support_task.kind.in_episode,
        )

    def _key(self, purpose: str, number: int) -> str:
        return f"{self._prefix}{purpose}/{number}"

    def _source(self, index: int) -> Supply:
        sources = self._sources[self._place(index)]
        if len(sources) == 1:
            return sources[0]
        return sources[Stream(self._key("domain", index)).below(len(sources))]

    def _place(self, index: int) -> tuple[str, str]:
        """Deal the index a task and a query language."""
        tasks, languages = len(self.tasks), len(self.languages)
        cycle, step = divmod(at_least(index, 0, "index"), tasks * languages)
        if tasks == languages == 1:
            return self.tasks[0], self.languages[0]
        if self._cycle[0] != cycle:
            stream = Stream(self._key("cycle", cycle))
            self._cycle = cycle, stream.shuffled(self.tasks), stream.shuffled(self.languages)
        # Stepping through both at once meets each pair once if the languages are moved on by one
        # whenever the two have come round together.
        language = (step + step // math.lcm(tasks, languages)) % languages
        return self._cycle[1][step % tasks], self._cycle[2][language]

    def _pool(self, task: str, language: str) -> Pool:
        if (task, language) not in self._pools:
            self._pools[task, language] = build_pool(
                self.family, self.split, task, language, self.setting.other_domain
            )
        return self._pools[task, language]

    def _build(self, task: str, language: str) -> list[Supply]:
        """Pair the pools of a task, domain by domain where domains count."""
        other = self.setting.support_language or language
        query, support = self._pool(task, language), self._pool(task, other)
        check_words(support.task, query.task.labels)
        where = f"The task {task!r} in {language!r}"
        if support is not query:
            where += f" with support in {other!r}"
        if not self.setting.other_domain:
            return [self._supply(Cell(support, query, self.near), where)]
        found = []
        short = IclError(f"{where} has no examples in the split {self.split!r}; leave it out.")
        for domain in query.domain_names:
            cell = Cell(support.outside(domain), query.inside(domain), self.near)
            try:
                found.append(self._supply(cell, f"{where} for queries on {domain!r}"))
            except IclError as error:
                short = error
        if not found:
            raise short
        return found

    def _supply(self, cell: Cell, where: str) -> Supply:
        return supply(
            cell,
            f"{where} in the split {self.split!r}",
            ways=self.ways,
            shots=self.shots[-1],
            queries=self.queries,
            pool=self.pool,
            composition=self.composition,
        )


def _labels(task: Task, strata: tuple[str, ...]) -> Labels:
    names = task.kind.among(task.labels, strata)
    if not set(names) <= set(task.labels):
        raise IclError(
            f"The kind of the task {task.name!r} asks among {', '.join(names)}; let `among` return"
            f" labels of the task's: {', '.join(task.labels)}."
        )
    return Labels(names, tuple(task.words[n] for n in names), task.template)
