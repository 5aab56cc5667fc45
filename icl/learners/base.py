"""The contract that every way of learning keeps: `Learner`, `Predictor`, `MetaLearner`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from icl.episodes.episode import Episode
from icl.errors import IclError
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields
from icl.tools.amounts import Work
from icl.tools.values import plain

if TYPE_CHECKING:
    from torch import Tensor

    from icl.learners.work import TokenCounter
    from icl.models.base import Ability


_UNNORMALISED = 1e-3  # how far the log of a row's sum may be from zero: rounding of many labels
Choices = Mapping[str, tuple[Any, ...]]  # values to try, by parameter


class Params(BaseModel):
    """Base of every learner's parameters: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def identity(self) -> dict[str, Any]:
        """Return all that these parameters decide a number by, as JSON values.

        Where a parameter names files, their content's hash stands in its place.
        """
        return plain(self)

    def check_task(self, labels: Labels, shown: Sequence[Example]) -> None:
        """Raise `IclError` where a task cannot be put before a model as these parameters say.

        Args:
            labels: the task's; of no label where answers are written.
            shown: its support set.
        """

    def check_files(self) -> None:
        """Raise `IclError` where a file that a parameter names is missing or does not fit."""


# the log-probability of what a learner rules out: finite, so that it is valid JSON
LOG_ZERO = -1.0e4


class Predictor(ABC):
    """What adaptation hands back: it labels texts. It never sees a query's label.

    Attributes:
        trained_parameters: how many numbers adaptation and meta-training moved; a cost.
    """

    trained_parameters: int = 0

    @abstractmethod
    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        """Return finite, normalised log-probabilities, float32 on the CPU, (queries, labels)."""


class Learner(ABC):
    """A way of learning a new task from a few examples.

    Attributes:
        method: the name in configs and tables.
        Params: the method's own parameters.
        writes: whether its predictors write answers too, by a method `generate`.
        transductive: whether its answer to a query depends on the other queries, all of which it
            sees at once; such methods are marked in every table.
        search: the values that are worth trying, by parameter; ``training.<field>`` for those of
            meta-training. Empty: there is nothing to search. See `icl.experiments.search`.
        trains_columns: whether it tells labels by columns that training fills one by one, so that
            it answers no task with more labels than it was trained with.
    """

    method: ClassVar[str]
    Params: ClassVar[type[Params]] = Params
    writes: ClassVar[bool] = False
    transductive: ClassVar[bool] = False
    search: ClassVar[Choices] = {}
    trains_columns: ClassVar[bool] = False

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """Say what a model must be able to do; nothing: the method uses no model.

        A method that does not say is taken to look into the model itself.
        """
        return frozenset({"weights"})

    @classmethod
    def work(cls, counter: TokenCounter, episode: Episode, params: Any) -> Work | None:
        """Return what adapting to an episode and answering it takes; None: it cannot be told.

        It is an estimate for ``icl run --dry-run``, from texts alone and before any model loads. A
        method that uses no model takes nothing.
        """
        return None if cls.needs(params) else Work()

    @abstractmethod
    def __init__(self, backbone: Any, params: Any) -> None:
        """Take the shared model, which can do what it `needs`, and its own validated parameters."""

    @abstractmethod
    def adapt(self, support: Sequence[Example], labels: Labels) -> Predictor:
        """Learn the task from its support set. The learner itself is left as it was."""

    def adapt_batch(self, tasks: Sequence[tuple[Sequence[Example], Labels]]) -> list[Predictor]:
        """Adapt to several tasks at once: equal to the loop over `adapt`, maybe faster."""
        return [self.adapt(support, labels) for support, labels in tasks]


class MetaLearner(Learner):
    """A learner that is trained over episodes before it is used.

    Attributes:
        plain: whether it does not learn to learn, but is trained on all tasks alike: the control of
            those that train the same.
        trains: an adapter under the label words, or a head on embeddings.
        joins_episodes: whether the meta-loss of several episodes is other than the mean of theirs
            alone; such a loss is not dealt to several processes.
    """

    plain: ClassVar[bool] = False
    trains: ClassVar[Literal["adapter", "head"]] = "adapter"
    joins_episodes: ClassVar[bool] = False

    @classmethod
    def training_work(
        cls, counter: TokenCounter, episodes: Sequence[Episode], params: Any
    ) -> Work | None:
        """Return what meta-training on some episodes takes, once; None: it cannot be told."""
        return None

    @abstractmethod
    def meta_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the mean meta-loss of some training episodes (scalar with a graph) and metrics."""

    def at_step(self, step: int, steps: int) -> None:
        """Be told which of how many outer steps comes next; most methods do not care."""

    def fine_tuning_loss(self, episodes: Sequence[Episode]) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss of plain training on some episodes, for a fine-tuned start.

        Raises:
            IclError: the method has no such loss.
        """
        raise IclError(
            f"The method {self.method!r} has no fine-tuned start; drop `training.fine_tune`."
        )

    def memory_estimate(self, episodes: Sequence[Episode]) -> int | None:
        """Return about how many bytes `meta_loss` on some episodes takes, or None if unknown."""
        return None

    @abstractmethod
    def trainable_parameters(self) -> Mapping[str, Tensor]:
        """Return the meta-parameters by name: leaf tensors that an optimiser moves in place."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the meta-parameters, detached and on the CPU."""
        return {k: v.detach().cpu().clone() for k, v in self.trainable_parameters().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy saved meta-parameters in; raises `ValueError` for other names or shapes."""
        own = self.trainable_parameters()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError("The saved state has other names or shapes than this learner.")
        for name, tensor in own.items():
            tensor.data.copy_(state[name])


def checked_scores(learner: Learner, predictor: Predictor, texts: Sequence[Fields]) -> Tensor:
    """Return a predictor's log-probabilities, (queries, labels): where labels are chosen by them.

    Raises:
        IclError: they are no tensor with a row a query, some are not numbers, so that none is the
            largest, or a row's probabilities do not add up to one.
    """
    from torch import Tensor

    from icl.models.scoring.finite import finite

    told, found = f"The method {learner.method!r}", predictor.log_probs(texts)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(texts):
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise IclError(
            f"{told} gave {given} for {len(texts)} queries; let `log_probs` return a tensor, a row"
            " for each and a column for each label."
        )
    total = finite(found, told).double().logsumexp(1)
    if bool((total.abs() > _UNNORMALISED).any()):
        worst = float(total[total.abs().argmax()].exp())
        raise IclError(
            f"{told} gave scores that are no log-probabilities: those of a query add up to"
            f" {worst:.3g}; let `log_probs` return `scores.log_softmax(1)`."
        )
    return found
