"""The part of an experiment's YAML that says how values are searched for."""

from __future__ import annotations

from pydantic import Field

from icl.episodes.schema import EpisodesConfig, SettingConfig
from icl.tasks.sources.schema import Strict
from icl.tools.yamlfile import fault


class TuningConfig(Strict):
    """Equal effort: every learner is tried with as many settings of its own, on the same episodes.

    What is not said here is as in the experiment's `episodes`.

    Attributes:
        trials: of each learner, the first with the values that are configured; a method with fewer
            to search has fewer.
        episodes: validation episodes of each setting, each at every number of `shots`.
        split: the meta-split that they are drawn from; never the one that is judged on.
        shots, queries, settings: of the validation episodes.
        tasks, languages: some of the split's; by default all.
    """

    trials: int = Field(ge=1)
    episodes: int = Field(ge=1)
    split: str = "validation"
    shots: tuple[int, ...] | None = Field(default=None, min_length=1)
    queries: int | None = Field(default=None, ge=1)
    settings: tuple[SettingConfig, ...] | None = Field(default=None, min_length=1)
    tasks: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None

    def check(self, judged: EpisodesConfig, drawn: bool) -> None:
        """Raise a fault where these episodes cannot be drawn, or are those that are judged on.

        Args:
            judged: the experiment's episodes.
            drawn: whether the experiment names tasks to draw from.
        """
        if not drawn:
            raise fault("`tuning` draws episodes; name their family under `tasks`", "tuning")
        if judged.file is None and self.split == judged.split:
            raise fault(
                f"{self.split!r} is the split that learners are judged on, so that choosing by it"
                " would be choosing by the test; name another",
                *("tuning", "split"),
            )
        for name in ("shots", "queries"):
            if getattr(self, name) is None and getattr(judged, name) is None:
                raise fault(f"`{name}` is missing; saved episodes do not tell it", "tuning", name)
        if judged.ways is None:
            raise fault("`ways` is missing; `tuning` draws as many", "episodes", "ways")

    def validation(self, judged: EpisodesConfig) -> EpisodesConfig:
        """Return the validation episodes, as an experiment says what it is judged on."""
        return EpisodesConfig(
            count=self.episodes,
            split=self.split,
            ways=judged.ways,
            shots=self.shots or judged.shots,
            queries=self.queries or judged.queries,
            settings=self.settings or judged.settings,
            tasks=self.tasks,
            languages=self.languages,
            composition=judged.composition,
            pool=judged.pool,
            near=judged.near,
            drop_leaks=judged.drop_leaks,
        )
