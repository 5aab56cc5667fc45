"""Evaluation: runner, records, statistics, cost."""
