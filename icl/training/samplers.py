"""Samplers of meta-training beside the training episodes' own."""

from __future__ import annotations

from icl.episodes import EpisodeSampler
from icl.training.config import TrainingConfig


def validation_sampler(sampler: EpisodeSampler, config: TrainingConfig) -> EpisodeSampler | None:
    """Return the sampler of the validation episodes: the training episodes' on another split.

    Raises:
        IclError: the family has no such split, or it cannot give such episodes.
    """
    if config.validation is None:
        return None
    return EpisodeSampler(
        sampler.family,
        config.validation.split,
        ways=sampler.ways,
        shots=sampler.shots,
        queries=sampler.queries,
        setting=sampler.setting,
        composition=sampler.composition,
        near=sampler.near,
        seed=sampler.seed,
    )


def fine_tuning_sampler(sampler: EpisodeSampler, config: TrainingConfig) -> EpisodeSampler:
    """Return the sampler of a fine-tuned start: the training episodes', within one language.

    Raises:
        IclError: the meta-split lacks the language.
    """
    if config.fine_tune is None:
        return sampler
    language = config.fine_tune.language
    return EpisodeSampler(
        sampler.family,
        sampler.split,
        ways=sampler.ways,
        shots=sampler.shots,
        queries=sampler.queries,
        languages=None if language is None else [language],
        composition=sampler.composition,
        near=sampler.near,
        seed=sampler.seed,
    )
