"""Several processes that do one job: a group, the watch over its members, and a launcher."""

from icl.processes.group import ALONE, Processes, connect

__all__ = ["ALONE", "Processes", "connect"]
