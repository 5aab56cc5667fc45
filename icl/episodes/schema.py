"""The schema of the episodes of an experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from icl.episodes.composition import Composition
from icl.episodes.sampler import EpisodeSampler
from icl.episodes.setting import Setting
from icl.tasks.loaded import TaskFamily
from icl.tasks.sources.schema import Strict
from icl.tools.yamlfile import fault

Variant = Literal["plain", "shuffled-labels", "flipped-labels", "abstract-labels"]
_DRAWN = ("count", "ways", "shots", "queries")


class SettingConfig(Strict):
    """How support and query relate; see `icl.episodes.Setting`."""

    name: str = Field(min_length=1)
    support_language: str | None = None
    other_domain: bool = False

    def setting(self) -> Setting:
        """Return the sampler's setting."""
        return Setting(self.name, self.support_language, self.other_domain)


class CompositionConfig(Strict):
    """How ways, shots and balance vary; see `icl.episodes.Composition`."""

    max_ways: int | None = Field(default=None, ge=2)
    vary_shots: bool = False
    support: Literal["balanced", "natural"] = "balanced"
    imbalance: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    queries: Literal["balanced", "natural"] = "balanced"

    def composition(self) -> Composition:
        """Return the sampler's composition."""
        return Composition(**self.model_dump())


class EpisodesConfig(Strict):
    """What learners are compared on: episodes to draw, or a saved set of them.

    Attributes:
        file: episodes that `icl episodes make` saved, or a file with one episode a line. It takes
            the place of all else but `ways`, which then counts for meta-training only.
        count: episodes of each setting; each is drawn at every number of `shots`, with the same
            queries.
        split, ways, shots, queries, tasks, languages, composition, pool, near: see
            `EpisodeSampler`.
        settings: by default support and query in the same language.
        variants: what is done to the labels of each setting's episodes; ``plain`` is nothing. See
            `icl.episodes.variants`.
        drop_leaks: whether texts that a later split holds as well are first dropped.
    """

    file: str | None = None
    count: int | None = Field(default=None, ge=1)
    ways: int | None = Field(default=None, ge=2)
    shots: tuple[int, ...] | None = Field(default=None, min_length=1)
    queries: int | None = Field(default=None, ge=1)
    split: str = "test"
    tasks: tuple[str, ...] | None = None
    languages: tuple[str, ...] | None = None
    settings: tuple[SettingConfig, ...] = Field(
        default=(SettingConfig(name="within"),), min_length=1
    )
    composition: CompositionConfig = CompositionConfig()
    pool: int = Field(default=0, ge=0)
    near: float | None = Field(default=None, gt=0, le=1)
    variants: tuple[Variant, ...] = Field(default=("plain",), min_length=1)
    drop_leaks: bool = False

    @model_validator(mode="after")
    def _lists_are_sets(self) -> EpisodesConfig:
        if self.shots and (min(self.shots) < 0 or len(set(self.shots)) < len(self.shots)):
            raise fault("give different numbers, 0 or more", "shots")
        names = [setting.name for setting in self.settings]
        if len(set(names)) < len(names):
            raise fault(f"two settings share a name: {', '.join(names)}", "settings")
        if len(set(self.variants)) < len(self.variants):
            raise fault("a variant stands twice; remove one", "variants")
        return self

    @model_validator(mode="after")
    def _are_drawn_or_read(self) -> EpisodesConfig:
        for name in _DRAWN:
            if self.file is None and getattr(self, name) is None:
                raise fault(f"`{name}` is missing; add it, or name saved episodes under `file`")
        if self.file is None:
            return self
        for name in sorted(self.model_fields_set - {"file", "ways"}):
            if getattr(self, name) != EpisodesConfig.model_fields[name].default:
                raise fault("the episodes of `file` are drawn already; leave this out", name)
        return self

    def samplers(self, family: TaskFamily, seed: int) -> list[EpisodeSampler]:
        """Return the sampler of each setting; none where a file is read.

        Raises:
            IclError: the family cannot give what is asked for.
        """
        if self.count is None or self.ways is None or not self.shots or self.queries is None:
            return []
        return [
            EpisodeSampler(
                family,
                self.split,
                ways=self.ways,
                shots=self.shots,
                queries=self.queries,
                setting=setting.setting(),
                tasks=self.tasks,
                languages=self.languages,
                composition=self.composition.composition(),
                pool=self.pool,
                near=self.near,
                seed=seed,
            )
            for setting in self.settings
        ]
