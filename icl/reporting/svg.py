"""A matplotlib figure as SVG that can stand inside a page: same bytes for the same figure."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icl.reporting.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that are put in while drawing and stand for the page's own, light or dark.
INK, FAINT = "#010101", "#020202"


def learner_colour(index: int) -> str:
    """Return the colour that stands for the page's colour of a learner."""
    return f"#0300{index:02x}"


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever the user's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "icl",
                "font.size": 11,
                "axes.edgecolor": INK,
                "axes.labelcolor": INK,
                "xtick.color": INK,
                "ytick.color": INK,
                "text.color": INK,
                "axes.spines.top": False,
                "axes.spines.right": False,
            }
        )
        yield


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """Return the figure as an ``<svg>`` element; call it within `drawing`.

    `prefix` keeps its ids apart from those of other figures on the page. `label` says what a
    reader who cannot see it should hear; it must be plain text that needs no escaping.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'xlink:href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    # The page's fonts, which are the reader's own.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for colour, name in _page_colours().items():
        text = text.replace(colour, f"var(--{name})")
    view_box = re.search(r'viewBox="([^"]*)"', text)
    assert view_box is not None
    opening = f'<svg viewBox="{view_box[1]}" role="img" aria-label="{label}">'
    text = re.sub(r"<svg.*?>", lambda _: opening, text, count=1, flags=re.DOTALL)
    return re.sub(r"\n\s*\n?", "\n", text).strip()


def _page_colours() -> Mapping[str, str]:
    learners = {learner_colour(i): f"learner-{i}" for i in range(len(LIGHT))}
    return {INK: "ink", FAINT: "faint", **learners}
