"""Evaluation: runner, records, statistics, cost.

The record layer imports nothing heavy; statistics load numpy and scipy when they are called.
"""

from icl.evaluation.record import Cost, EpisodeRecord
from icl.evaluation.store import RecordStore, same_outcomes
from icl.evaluation.summary import Summary, summarise

__all__ = ["Cost", "EpisodeRecord", "RecordStore", "Summary", "same_outcomes", "summarise"]
