"""Samplers of meta-training beside the training episodes' own."""

from __future__ import annotations

from typing import Any

from icl.episodes import EpisodeSampler
from icl.training.config import TrainingConfig


def validation_sampler(sampler: EpisodeSampler, config: TrainingConfig) -> EpisodeSampler | None:
    """Return the sampler of the validation episodes: the training episodes' on another split.

    Raises:
        IclError: the family has no such split, or it cannot give such episodes.
    """
    if config.validation is None:
        return None
    return _like(sampler, config.validation.split, setting=sampler.setting)


def fine_tuning_sampler(sampler: EpisodeSampler, config: TrainingConfig) -> EpisodeSampler:
    """Return the sampler of a fine-tuned start: the training episodes', within one language.

    Raises:
        IclError: the meta-split lacks the language.
    """
    if config.fine_tune is None:
        return sampler
    language = config.fine_tune.language
    return _like(sampler, sampler.split, languages=None if language is None else [language])


def _like(sampler: EpisodeSampler, split: str, **which: Any) -> EpisodeSampler:
    same = ("ways", "shots", "queries", "composition", "near", "seed")
    return EpisodeSampler(
        sampler.family, split, **{name: getattr(sampler, name) for name in same}, **which
    )
