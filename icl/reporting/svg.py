"""A matplotlib figure inside a page as SVG, or in files: same bytes for the same figure."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from icl.reporting.palette import DARK, LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that are put in while drawing and stand for the page's own, light or dark.
_INK, _FAINT = "#010101", "#020202"
_ON_PAPER = {_INK: "#1c1f24", _FAINT: "#c3c9d1"}  # as the page's in daylight
# of files, in the light and in the dark
_FILE_INK, _FILE_FAINT, _FILE_GROUND = (
    ("#1c1f24", "#e6e9ee"),
    ("#c3c9d1", "#4a5160"),
    ("#ffffff", "#16181d"),
)
_PAPER: ContextVar[bool] = ContextVar("icl_paper", default=False)


def ink() -> str:
    """Return the colour of axes and text."""
    return _ON_PAPER[_INK] if _PAPER.get() else _INK


def faint() -> str:
    """Return the colour of grids."""
    return _ON_PAPER[_FAINT] if _PAPER.get() else _FAINT


def learner_colour(index: int) -> str:
    """Return the colour of a learner, see `icl.reporting.palette.Style`."""
    return LIGHT[index] if _PAPER.get() else f"#0300{index:02x}"


@contextmanager
def drawing(*, paper: bool = False) -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever the user's matplotlibrc says.

    Args:
        paper: in real colours, for a file; else in such as stand for the page's own.
    """
    import matplotlib as mpl

    token = _PAPER.set(paper)
    try:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(
                {
                    "svg.fonttype": "none",
                    "svg.hashsalt": "icl",
                    "font.size": 11,
                    "axes.edgecolor": ink(),
                    "axes.labelcolor": ink(),
                    "xtick.color": ink(),
                    "ytick.color": ink(),
                    "text.color": ink(),
                    "axes.spines.top": False,
                    "axes.spines.right": False,
                }
            )
            yield
    finally:
        _PAPER.reset(token)


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """Return the figure as an ``<svg>`` element; call it within `drawing`.

    `prefix` keeps its ids apart from those of other figures on the page. `label` says what a
    reader who cannot see it should hear.
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
    learners = {f"#0300{i:02x}": f"learner-{i}" for i in range(len(LIGHT))}
    for colour, name in {_INK: "ink", _FAINT: "faint", **learners}.items():
        text = text.replace(colour, f"var(--{name})")
    view_box = re.search(r'viewBox="([^"]*)"', text)
    assert view_box is not None
    opening = f'<svg viewBox="{view_box[1]}" role="img" aria-label="{html.escape(label)}">'
    text = re.sub(r"<svg.*?>", lambda _: opening, text, count=1, flags=re.DOTALL)
    return re.sub(r"\n\s*\n?", "\n", text).strip()


def file_svg(figure: Figure, label: str) -> str:
    """Return the figure as an SVG file of its own, read in the light and in the dark.

    It follows what the reader's system asks for, and brings its ground with it, so that it can be
    read on a page of either kind. Call it within `drawing`; `label` is as for `inline_svg`.
    """
    text = inline_svg(figure, "figure", label)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None
    _, _, width, height = box[1].split()
    colours = {"ink": _FILE_INK, "faint": _FILE_FAINT, "ground": _FILE_GROUND}
    pairs = {f"learner-{i}": pair for i, pair in enumerate(zip(LIGHT, DARK, strict=True))}
    light, dark = (
        "".join(f"--{name}:{pair[place]};" for name, pair in {**colours, **pairs}.items())
        for place in (0, 1)
    )
    style = (
        f"<style>svg{{{light}font-family:system-ui,sans-serif}}"
        f"@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
        '<rect width="100%" height="100%" style="fill:var(--ground)"/>'
    )
    opening = '<svg xmlns="http://www.w3.org/2000/svg" '
    text = text.replace("<svg ", f'{opening}width="{width}" height="{height}" ', 1)
    head, rest = text.split(">", 1)
    return f"{head}>{style}{rest}\n"
