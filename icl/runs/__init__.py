"""Runs: carrying learners over episodes, and keeping what they did.

The record layer imports nothing heavy.
"""

from icl.runs.record import Cost, EpisodeRecord
from icl.runs.store import RecordStore, same_outcomes

__all__ = ["Cost", "EpisodeRecord", "RecordStore", "same_outcomes"]
