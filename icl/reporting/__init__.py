"""Reporting: terminal tables, plots and one self-contained HTML page."""

from icl.reporting.page import write_report
from icl.reporting.terminal import print_table
from icl.reporting.verdict import verdict

__all__ = ["print_table", "verdict", "write_report"]
