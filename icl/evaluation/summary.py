"""`Summary`: what a run's records say, as plain typed figures that any report can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icl.errors import IclError, did_you_mean
from icl.evaluation.alarms import Alarms, alarms
from icl.evaluation.amortise import BreakEven, break_even
from icl.evaluation.board import Board, LanguageAccuracy, MetaTraining, Row
from icl.evaluation.grid import Grid, grid
from icl.evaluation.transfer import Transfer, transfer
from icl.evaluation.worst import WorstEpisode, worst_episodes
from icl.runs.record import ACCURACY, EpisodeRecord
from icl.runs.used_models import UsedModel

if TYPE_CHECKING:
    from icl.evaluation.pairs import Pair
    from icl.evaluation.reliability import Calibration


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures.

    Attributes:
        learners: sorted by name.
        overall: the board over all episodes, those with changed labels left out (see
            `icl.evaluation.grid.Grid.plain`), as in all below that are over all episodes.
        boards: one for each setting and number of shots, sorted.
        languages: accuracy by setting and query language, sorted.
        meta_training: by learner, for those that were meta-trained.
        left_out: learner -> number of its records left out, since not all learners have done
            those episodes; not empty for an unfinished run.
        transductive: learners that saw all queries of an episode at once, sorted.
        balanced: whether each episode asks for all of its labels equally often.
        commonest: what always giving the most frequent label scores, see `Grid.commonest`.
        inexact: by learner, the share of its label scores that a server gave in each way that is
            not exact; learners with none are not there.
        metric: what all figures but those of `further` are means of.
        further: a board over all episodes for each other metric that judges some of them.
        calibration: by learner, where the metric is accuracy.
        transfer: accuracy by support and query language, where some episodes join two.
        worst: the episodes on which the best learner scores lowest.
        pairs: all comparisons of two learners over all episodes.
        models: by learner, its model, where there are several; learners that need none, and all
            where there is one model only, are not there.
        alarms: what is not beaten over all episodes, and who gives one answer.
    """

    learners: tuple[str, ...]
    overall: Board
    boards: tuple[Board, ...]
    languages: tuple[LanguageAccuracy, ...]
    meta_training: Mapping[str, MetaTraining]
    left_out: Mapping[str, int]
    transductive: tuple[str, ...] = ()
    balanced: bool = False
    commonest: float | None = None
    inexact: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metric: str = ACCURACY
    further: tuple[Board, ...] = ()
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    transfer: Transfer | None = None
    worst: tuple[WorstEpisode, ...] = ()
    pairs: tuple[Pair, ...] = ()
    models: Mapping[str, UsedModel] = field(default_factory=dict)
    alarms: Alarms = field(default_factory=Alarms)

    @property
    def break_even(self) -> tuple[BreakEven, ...]:
        """From how many tasks on meta-training pays, by the overall board."""
        return break_even(self.overall.rows, self.meta_training)

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings' names, sorted."""
        return tuple(dict.fromkeys(str(board.setting) for board in self.boards))


def summarise(
    records: Iterable[EpisodeRecord],
    meta_training: Mapping[str, Mapping[str, float]] | None = None,
    metric: str | None = None,
    models: Mapping[str, UsedModel] | None = None,
) -> Summary:
    """Summarise records on the episodes that every learner has done.

    Args:
        records: of a run.
        meta_training: by learner, what its meta-training took: seconds, tokens, steps.
        metric: what is compared; by default accuracy, or for other kinds the first metric of
            the first task. Only the episodes that it judges count.
        models: by learner, the model that it was on.

    Raises:
        IclError: nothing can be compared (see `icl.evaluation.grid.grid`), or no episode is judged
            by the metric.
    """
    from icl.evaluation.pairs import pairs
    from icl.evaluation.reliability import calibration
    from icl.learners.registry import known_class

    everything = grid(records)
    metrics = everything.metrics
    metric = metric or metrics[0]
    if metric not in metrics:
        raise IclError(f"No episode is judged by {metric!r}." + did_you_mean(metric, metrics))
    whole = everything.where(metric=metric)
    groups = dict.fromkeys((row[0].setting, row[0].shots) for row in whole.episodes)
    plain = whole.plain
    several = _several(models or {}, whole.learners)
    on = {name: model.label for name, model in several.items()}
    overall = _board(plain, metric, on, control=whole.shuffled())
    all_pairs = pairs(plain.learners, plain.scores(metric))
    return Summary(
        learners=whole.learners,
        overall=overall,
        boards=tuple(
            _board(whole.where(setting=setting, shots=shots), metric, on, setting, shots)
            for setting, shots in groups
        ),
        languages=_languages(whole, metric),
        meta_training={
            name: MetaTraining(float(m["seconds"]), int(m["tokens"]), int(m["steps"]))
            for name, m in sorted((meta_training or {}).items())
        },
        left_out=whole.left_out,
        transductive=tuple(
            record.learner
            for record in whole.episodes[0]
            # by its method, or by its parameters, as batch calibration
            if record.transductive or getattr(known_class(record.method), "transductive", False)
        ),
        balanced=plain.balanced,
        commonest=plain.commonest,
        inexact=_inexact(whole),
        metric=metric,
        further=tuple(
            _board(everything.where(metric=other).plain, other, on)
            for other in metrics
            if other != metric
        ),
        calibration={
            name: calibration(plain.of(name)) for name in whole.learners if metric == ACCURACY
        },
        transfer=transfer(whole, metric),
        worst=worst_episodes(plain, metric, overall.best.learner),
        pairs=all_pairs,
        models=several,
        alarms=alarms(plain, metric, all_pairs),
    )


def _several(models: Mapping[str, UsedModel], learners: Sequence[str]) -> dict[str, UsedModel]:
    """Return the models of some learners, where these are several; nothing where there is one."""
    found = {name: models[name] for name in learners if name in models}
    return found if len({model.label for model in found.values()}) > 1 else {}


def _inexact(whole: Grid) -> dict[str, dict[str, float]]:
    from icl.models.server.replies import EXACT

    ways = {name: Counter[str]() for name in whole.learners}
    for row in whole.episodes:
        for record in row:
            ways[record.learner].update(record.scoring)
    return {
        name: {way: n / counts.total() for way, n in counts.most_common() if way not in EXACT}
        for name, counts in ways.items()
        if counts.keys() - EXACT
    }


def _board(
    part: Grid,
    metric: str,
    on: Mapping[str, str],
    setting: str | None = None,
    shots: int | None = None,
    control: Grid | None = None,
) -> Board:
    from icl.evaluation.statistics import holm_pairs

    sample = part.scores(metric)
    means, differences = sample.means(), sample.differences()
    corrected = holm_pairs(differences.p)
    best = int(means.mean.argmax())
    chance = part.chance(metric)
    shuffled = None if control is None else control.scores(metric).mean
    rows = []
    for i, name in enumerate(part.learners):
        records = part.of(name)
        costs = [record.cost for record in records]
        difference = differences.of(i, best)
        rows.append(
            Row(
                learner=name,
                method=records[0].method,
                accuracy=float(means.mean[i]),
                low=float(means.low[i]),
                high=float(means.high[i]),
                above_chance=bool(means.low[i] > chance),
                difference=difference.value,
                difference_low=difference.low,
                difference_high=difference.high,
                p=float(corrected[i, best]),
                seconds=sum(c.seconds for c in costs) / len(costs),
                prompt_tokens=sum(c.prompt_tokens for c in costs) / len(costs),
                computed_tokens=sum(c.computed_tokens for c in costs) / len(costs),
                peak_memory_mb=max(c.peak_memory_mb for c in costs),
                trained_parameters=max(c.trained_parameters for c in costs),
                forward_flops=_mean_of_known([c.forward_flops for c in costs]),
                backward_flops=_mean_of_known([c.backward_flops for c in costs]),
                shared=sum(c.shared_tokens for c in costs)
                / max(1, sum(c.computed_tokens for c in costs)),
                model=on.get(name),
                control=None if shuffled is None else float(shuffled[i]),
            )
        )
    return Board(
        setting=setting,
        shots=shots,
        episodes=len(part.episodes),
        queries=part.queries,
        draws=part.draws,
        chance=chance,
        rows=tuple(sorted(rows, key=lambda row: -row.accuracy)),
        metric=metric,
    )


def _mean_of_known(values: Sequence[int | None]) -> float | None:
    """Return the mean, or None where a value is not known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _languages(whole: Grid, metric: str) -> tuple[LanguageAccuracy, ...]:
    found = {(row[0].setting, row[0].query_language) for row in whole.episodes}
    lines = []
    for setting, language in sorted(found):
        part = whole.where(setting=setting, language=language)
        mean = part.scores(metric).mean
        lines.append(
            LanguageAccuracy(
                setting=setting,
                language=language,
                episodes=len(part.episodes),
                queries=part.queries,
                accuracy={name: float(mean[i]) for i, name in enumerate(part.learners)},
            )
        )
    return tuple(lines)
