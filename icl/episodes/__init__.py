"""Episodes: drawn by seed, the same for every learner."""

from icl.episodes.episode import Episode
from icl.episodes.sampler import EpisodeSampler, Setting

__all__ = ["Episode", "EpisodeSampler", "Setting"]
