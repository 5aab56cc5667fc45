"""A run's answers to the questions of `icl.evaluation.diagnosis`, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from icl.reporting.numbers import p_value, percent, points
from icl.reporting.terminal import titled

if TYPE_CHECKING:
    from rich.console import Console

    from icl.evaluation.diagnosis import Answer, Finding

_MOST = 12  # findings shown of an answer


def finding_cells(finding: Finding) -> tuple[str, str, str, str, str]:
    """Return a finding as people read it: subject, what, value, 95 % interval, p.

    >>> from icl.evaluation.diagnosis import Finding
    >>> finding_cells(Finding("lora", "shuffled labels less plain", -0.1, -0.15, -0.05, 0.02))
    ('lora', 'shuffled labels less plain', '−10.0', '−15.0 to −5.0', '0.020')
    """
    if finding.unit == "points":
        value = points(finding.value)
    elif finding.unit == "share":
        value = percent(finding.value)
    else:
        value = f"{finding.value:.3g}"
    interval = ""
    if finding.low is not None and finding.high is not None:
        interval = f"{points(finding.low)} to {points(finding.high)}"
    p = "" if finding.p is None else p_value(finding.p)
    return finding.subject, finding.what, value, interval, p


def print_answers(answers: Sequence[Answer], console: Console) -> None:
    """Print each question with its answer and figures, or what it would take to have one."""
    from rich.text import Text

    # `Text` everywhere: a learner may be named "[red]", which rich would take for markup.
    for answer in answers:
        console.print(Text(answer.question, style="bold"))
        console.print(Text(answer.said, style="" if answer.answered else "yellow"))
        if answer.lines:
            console.print(Text("To have it answered, put into the experiment:", style="dim"))
            console.print(Text(answer.lines, style="dim"))
        if answer.findings:
            table = titled(None, {"Learner": 8, "": 16}, ("", "95 % interval", "p"))
            for finding in answer.findings[:_MOST]:
                table.add_row(*map(Text, finding_cells(finding)))
            console.print(table)
            left = len(answer.findings) - _MOST
            if left > 0:
                console.print(Text(f"… and {left} more: --json, or the report", style="dim"))
        console.print()
    console.print(
        Text(
            "Differences in percentage points, on identical episodes where not said otherwise; p "
            "is Holm-corrected over the figures of one answer.",
            style="dim",
        )
    )
