"""Evaluation: runner, records, statistics, cost.

The record layer imports nothing heavy; statistics load numpy and scipy when they are called.
"""

from icl.evaluation.record import Cost, EpisodeRecord
from icl.evaluation.store import RecordStore, same_outcomes

__all__ = ["Cost", "EpisodeRecord", "RecordStore", "same_outcomes"]
