"""`LearnerConfig`: what an experiment's file says of one learner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from icl.errors import IclError
from icl.experiments.model_config import ModelConfig
from icl.experiments.search import TRAINING, check_names, check_values
from icl.learners import registry
from icl.learners.base import Params
from icl.training import TrainingConfig


class LearnerConfig(BaseModel):
    """A learner: its method, the method's own parameters beside it, its model and meta-training.

    Attributes:
        model: names one of the experiment's `models`; None takes the first.
        search: what `tuning` searches, in place of what the method declares: values by parameter,
            ``training.<field>`` for those of meta-training. Empty: nothing.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str
    model: str | None = None
    training: TrainingConfig | None = None
    search: Mapping[str, tuple[JsonValue, ...]] | None = None

    def check_method(self) -> None:
        """Raise `IclError` for an unknown method."""
        with _inside_a_sentence():
            registry.learner_class(self.method)

    def check(self) -> None:
        """Raise `IclError` for a parameter, or for training, that the method does not take."""
        taken = registry.learner_class(self.method).Params.model_fields.keys()
        for name in type(self).model_fields.keys() & taken:  # of somebody's own method
            raise IclError(
                f"the method {self.method!r} has a parameter {name!r}, which is a field of every"
                " learner; give the parameter another name."
            )
        self.params().check_files()
        if self.training is not None and not registry.is_meta_learner(self.method):
            raise IclError(f"the method {self.method!r} is not meta-trained; drop `training`.")

    def check_model(self, model: ModelConfig) -> None:
        """Raise `IclError` for a method that needs what the model is known not to do."""
        sketch = model.foresee()
        if sketch is not None:
            with _inside_a_sentence():
                registry.check_model(self.method, self.params(), sketch)

    def params(self) -> Params:
        """Return the method's parameters, complete with defaults."""
        return registry.validate(self.method, self.model_extra or {})

    def with_values(self, values: Mapping[str, Any]) -> LearnerConfig:
        """Return the learner with these values, by parameter as in `search`, and none to search.

        Raises:
            IclError: the method takes no such parameter or value.
        """
        own = {name: v for name, v in values.items() if not name.startswith(TRAINING)}
        trained = {n.removeprefix(TRAINING): v for n, v in values.items() if n not in own}
        training = self.training
        if trained:
            begun = (training or TrainingConfig()).model_dump()
            try:
                training = TrainingConfig.model_validate({**begun, **trained})
            except ValidationError as error:
                raise IclError(f"{error.errors()[0]['msg']}.") from error
        made = self.model_copy(update={"training": training, "search": None, **own})
        made.check()
        return made

    def values(self) -> dict[str, Any]:
        """Return all that can be searched, by parameter as in `search`, as JSON values."""
        found = self.params().model_dump(mode="json")
        training = self.complete().training
        trained = {} if training is None else training.model_dump(mode="json")
        return found | {f"{TRAINING}{name}": value for name, value in trained.items()}

    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """Return what is searched: what stands under `search`, else what the method declares."""
        return registry.learner_class(self.method).search if self.search is None else self.search

    def check_search(self) -> None:
        """Raise `IclError` for choices that the method does not have.

        Of those that it declares itself, values that what is configured rules out are left out.
        """
        check_names(self.choices(), self.values())
        if self.search is not None:
            check_values(self.search, self.with_values)

    def complete(self) -> LearnerConfig:
        """Return the same learner with every default written out."""
        training = self.training
        if training is None and registry.is_meta_learner(self.method):
            training = TrainingConfig()
        return LearnerConfig(
            method=self.method,
            model=self.model,
            training=training,
            search=self.search,
            **self.params().model_dump(),
        )


@contextmanager
def _inside_a_sentence() -> Iterator[None]:
    """Let a fault begin in lower case: it is told behind the field that it is of."""
    try:
        yield
    except IclError as error:
        raise IclError(str(error)[0].lower() + str(error)[1:]) from error
