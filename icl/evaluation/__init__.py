"""Evaluation: what records say, with statistics. numpy and scipy load when they are called."""

from icl.evaluation.summary import Summary, summarise

__all__ = ["Summary", "summarise"]
