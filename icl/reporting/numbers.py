"""Figures as people read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icl.evaluation.board import Board

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"


_METRICS = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "chrf": "chrF",
    "bleu": "BLEU",
    "rouge": "ROUGE-L",
}


def markdown(text: str) -> str:
    r"""Write a text of the user's so that Markdown shows it as it is, on one line.

    >>> markdown("a_b <b>|")
    'a\\_b \\<b>\\|'
    """
    return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(text.split()))


def episodes_of(episodes: int, draws: int) -> str:
    """Say how many episodes, and how many draws stand behind them where these are fewer.

    >>> episodes_of(48, 24), episodes_of(24, 24)
    ('48 episodes of 24 draws', '24 episodes')
    """
    said = f"{episodes} episode{'s' * (episodes != 1)}"
    return said if draws == episodes else f"{said} of {draws} draw{'s' * (draws != 1)}"


def board_title(board: Board) -> str:
    """Name a board by its episodes."""
    which = (
        "All episodes"
        if board.setting is None
        else f"{board.setting}, {board.shots} shot{'s' * (board.shots != 1)}"
    )
    size = f"{which}: {episodes_of(board.episodes, board.draws)}, {board.queries} queries"
    return f"{size}, chance {percent(board.chance)}" if board.chance else size


def metric_name(metric: str) -> str:
    """Name a metric in the middle of a sentence.

    >>> metric_name("chrf"), metric_name("all_right")
    ('chrF', 'all right')
    """
    return _METRICS.get(metric, metric.replace("_", " "))


def metric_title(metric: str) -> str:
    """Name a metric at the beginning of a sentence.

    >>> metric_title("exact_match"), metric_title("token_f1"), metric_title("chrf")
    ('Exact match', 'Token F1', 'chrF')
    """
    name = metric_name(metric)
    return name if name == "chrF" else name[0].upper() + name[1:]


def percent(share: float, digits: int = 1) -> str:
    """Format a share as a percentage.

    >>> percent(0.6894)
    '68.9\\xa0%'
    """
    return f"{100 * share:.{digits}f}{NBSP}%"


def span(low: float, high: float) -> str:
    """Format an interval of shares in percent, the sign once.

    >>> span(0.641, 0.733)
    '64.1–73.3\\xa0%'
    """
    return f"{100 * low:.1f}–{percent(high)}"


def points(difference: float) -> str:
    """Format a difference of shares in percentage points, always with a sign.

    >>> points(-0.0317), points(0.02), points(-0.0001)
    ('−3.2', '+2.0', '0.0')
    """
    text = f"{100 * abs(difference):.1f}"
    if text == "0.0":
        return text
    return (MINUS if difference < 0 else "+") + text


def p_value(p: float) -> str:
    """Format a p-value as papers do.

    >>> p_value(0.00004), p_value(0.0312), p_value(1.0)
    ('< 0.001', '0.031', '1')
    """
    if p < 0.001:
        return "< 0.001"
    return "1" if p > 0.9995 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Format seconds in the unit that suits them.

    >>> duration(0.0002), duration(0.126), duration(7.96), duration(75), duration(7300)
    ('0.2\\xa0ms', '126\\xa0ms', '8.0\\xa0s', '1\\xa0min 15\\xa0s', '2\\xa0h 2\\xa0min')
    """
    if seconds < 0.9995:
        milliseconds = 1000 * seconds
        digits = 0 if milliseconds >= 9.5 or milliseconds == 0 else 1
        return f"{milliseconds:.{digits}f}{NBSP}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60}{NBSP}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{NBSP}h {minutes % 60}{NBSP}min"


def nats(loss: float) -> str:
    """Format a mean negative log-likelihood; past 20 it says only that something was ruled out.

    >>> nats(0.6931), nats(float("inf"))
    ('0.693', '>\\xa020')
    """
    return f"{loss:.3f}" if loss <= 20 else f">{NBSP}20"


def count(number: float) -> str:
    """Format a count with three figures and k, M, G, T or P.

    >>> count(0), count(87.4), count(1234.5), count(368640), count(2.7e8), count(4.5e12)
    ('0', '87', '1.23k', '369k', '270M', '4.50T')
    """
    for unit in ("", "k", "M", "G", "T", "P"):
        if number < 999.5 or unit == "P":
            break
        number /= 1000
    if not unit:
        return f"{number:.0f}"
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f}{unit}"
