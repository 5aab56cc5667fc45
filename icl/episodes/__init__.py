"""Episodes: drawn by seed, the same for every learner."""

from icl.episodes.composition import Composition
from icl.episodes.draw import draw
from icl.episodes.episode import Episode
from icl.episodes.sampler import EpisodeSampler
from icl.episodes.setting import Setting

__all__ = ["Composition", "Episode", "EpisodeSampler", "Setting", "draw"]
