"""The budget of a meta-training run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FineTuneConfig(BaseModel):
    """Plain training before meta-training: a fine-tuned start, as in X-MAML.

    Attributes:
        steps: outer steps on the query loss at the start itself, without an inner loop.
        language: of all examples; None for those of the meta-split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1)
    language: str | None = None


class ValidationConfig(BaseModel):
    """Meta-training keeps the state that does best on a split that it is not trained on.

    Best is the least mean negative log-probability of queries' labels after adaptation, as at test.

    Attributes:
        split: the meta-split; its tasks should be neither trained nor judged on.
        episodes: how many, always the same ones.
        every: steps between looks; the last step is always looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "validation"
    episodes: int = Field(default=16, ge=1)
    every: int = Field(default=10, ge=1)


class TrainingConfig(BaseModel):
    """How a meta-learner is trained over episodes of the training split.

    Attributes:
        split: the meta-split to draw episodes from.
        steps: outer steps.
        meta_batch: episodes a step.
        ways: of the training episodes, by default the experiment's; metric learners are best
            trained with more ways than they are judged on (Snell et al. 2017, section 2.5).
        shots, queries: of the training episodes.
        support_language: every training support set is in this language and its queries are in
            another; None: both are in the same (cross-lingual MAML).
        languages: query languages; None for all of the meta-split.
        fine_tune: plain training before meta-training.
        validation: keep the state that adapts best to other tasks; None: the last one.
        tasks_at_once: how many tasks of a meta-batch run at once; None for one on a CPU, and on a
            GPU all that a process has. Wherever this depends on no number of processes, any number
            gives the same bits.
        optimiser: ``adam``, or plain descent, with which Reptile is what its paper says.
        learning_rate: of the outer optimiser.
        schedule: ``constant``, or down to zero over meta-training: ``linear`` (Reptile) or
            ``cosine`` (MAML++).
        clip_norm: largest norm of the meta-gradient; None: as it is. By default 1 with ``adam`` and
            None with ``sgd``, whose steps are the gradient and nothing else.
        on_divergence: where a loss or gradient is not finite, ``stop``, or ``halve`` the learning
            rate and go on from the last good checkpoint.
        checkpoint_every: steps between checkpoints; 0 for the last step only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "train"
    steps: int = Field(default=50, ge=1)
    meta_batch: int = Field(default=4, ge=1)
    ways: int | None = Field(default=None, ge=2)
    shots: int = Field(default=5, ge=1)
    queries: int = Field(default=10, ge=1)
    support_language: str | None = None
    languages: tuple[str, ...] | None = None
    fine_tune: FineTuneConfig | None = None
    validation: ValidationConfig | None = None
    tasks_at_once: int | None = Field(default=None, ge=1)
    optimiser: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    clip_norm: float | None = Field(default=1.0, gt=0)
    on_divergence: Literal["stop", "halve"] = "stop"
    checkpoint_every: int = Field(default=10, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _descent_is_plain(cls, given: Any) -> Any:
        """Clip no published step: it is done to plain descent only where it is asked for."""
        if isinstance(given, dict) and given.get("optimiser") == "sgd":
            return {"clip_norm": None, **given}
        return given

    def deciding(self) -> dict[str, Any]:
        """Return what decides the result, as JSON values."""
        # Where training halves its rate it goes back to a checkpoint; else these only save work.
        beside = set() if self.on_divergence == "halve" else {"checkpoint_every"}
        return self.model_dump(mode="json", exclude=beside)
