"""Labelling a table from a few labelled examples: what ``icl predict`` does."""

from icl.labelling.job import Labelled, label_table

__all__ = ["Labelled", "label_table"]
