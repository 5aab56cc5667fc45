"""A colour and a marker for each learner, distinguishable without colour vision.

The hues are those of Okabe & Ito ("Color universal design", 2008). On paper white some of them are
darkened and on dark ground some lightened, so that each stands out by at least 3 to 1; the marker
tells learners apart where colour does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LIGHT = (
    "#0072b2", "#d55e00", "#008f68", "#b85c8e", "#b87a00", "#2b8cc4", "#4d4d4d", "#857d00",
)  # fmt: skip
DARK = (
    "#4ba3e3", "#f0793a", "#1fbf92", "#dd94bd", "#e69f00", "#7cc8f5", "#c8c8c8", "#f0e442",
)  # fmt: skip

# matplotlib's name of a marker and the same shape in a 12 x 12 box. Seven markers to eight
# colours: the pair repeats after 56 learners only.
MARKERS = (
    ("o", "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9z"),
    ("s", "M2 2h8v8h-8z"),
    ("^", "M6 1.2 11 10.5H1z"),
    ("D", "M6 .8 11.2 6 6 11.2 .8 6z"),
    ("v", "M6 10.8 1 1.5h10z"),
    ("P", "M4 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z"),
    ("X", "M3.3 1 6 3.7 8.7 1 11 3.3 8.3 6 11 8.7 8.7 11 6 8.3 3.3 11 1 8.7 3.7 6 1 3.3z"),
)


@dataclass(frozen=True, slots=True)
class Style:
    """How a learner is drawn: `colour` is an index into LIGHT and DARK."""

    colour: int
    marker: str
    path: str


def styles(learners: Sequence[str]) -> dict[str, Style]:
    """Give each learner its style by its place in the sequence."""
    return {
        name: Style(i % len(LIGHT), *MARKERS[i % len(MARKERS)]) for i, name in enumerate(learners)
    }
