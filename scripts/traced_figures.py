"""Whether the figures of a page's remarks stand in a block: a table or output with its command.

A figure of a remark is a percentage, a number of points, a ± width, a signed number, a p-value, or
an end of an interval beside one of these; in pages of results every other number with decimals,
too, that is no time and no size. Figures in code and numbers in words are not looked at.

A block is what stands between two markers (see `marked_blocks`), or a table or plain output behind
a text that names its command. A remark's figures must stand in the blocks of its own section where
it has some, else in any block of the repository, with at least as many digits. The sign is not
compared: a remark may turn a difference round. That a figure stands somewhere does not say that it
is the one that is meant. What is derived says from what, in the same paragraph:

    5 points <!-- 5 = 94.3 - 89.0 -->

what was set and not measured, such as a goal, is told likewise, with what it is

    within 2 points <!-- given: 2, the width that was planned for -->

and what another computation on a run's records has given stands between markers that name it:

    <!-- computed: icl.evaluation.analysis.compare on the queries of runs/NAME -->
    ...
    <!-- end of computed -->
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from marked_blocks import COMPUTED, Fault, blanked, blocks, comments

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_FIGURE = re.compile(rf"(?<![\w.,/])(?P<sign>[+−]|± ?)?(?P<number>{_NUMBER})(?![\w]|[.,/]\d)")
_UNIT = re.compile(
    r"[\s\u00a0]*(?:-|[µm]?s\b|min\b|minutes?\b|h\b|hours?\b|seconds?\b|times\b|[kMG]\b|[KMG]i?B\b|steps\b"
    r"|episodes\b|draws\b|queries\b|cores\b|learners\b|languages\b|shots?\b|ways\b|or newer)"
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE = re.compile(r"^(`{3,})(\w*).*?\n(.*?)^\1`*\s*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\]\([^)\s]*\)|<https?:[^>]*>")
_TABLE = re.compile(r"(?:^[ \t]*\|.*\n?)+", re.MULTILINE)
_HEADING = re.compile(r"^## .*$", re.MULTILINE)
_COMMAND = re.compile(
    r"(?:`|^[ \t]*(?:\$ )?)(?:\w+=\S+ )*(?:python scripts/\w+\.py|icl [a-z]+ \S)", re.MULTILINE
)
_LEVEL = re.compile(r"[^.]{0,40}\bintervals?\b")
_P = re.compile(r"\bp[\s\u00a0]*(?:[=<][\s\u00a0]*)?$")
_JOINS = re.compile(r"[\s\u00a0]*(?:%|points?)?[\s\u00a0]*(?:to|–|and|or|against)[\s\u00a0]*[+−]?$")
_FORMULA = re.compile(rf"(?P<figure>{_NUMBER})\s*=\s*(?P<formula>[\d.,()+*/\s-]+)$")
_GIVEN = re.compile(rf"given: (?P<figure>{_NUMBER}), \S")
_OPERATIONS = (ast.Add, ast.Sub, ast.Mult, ast.Div)
_RESULTS = ("results", "when-it-pays")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a remark, with its place in the page."""

    number: Decimal
    at: int
    written: str

    def is_in(self, numbers: Iterable[Decimal]) -> bool:
        """Whether one of some numbers is this one, rounded as it is written."""
        digits = -int(self.number.as_tuple().exponent)
        half = Decimal(1).scaleb(-digits) / 2
        return any(
            -int(n.as_tuple().exponent) >= digits and abs(n - self.number) <= half for n in numbers
        )


@dataclass(frozen=True, slots=True)
class Traced:
    """What became of a page's figures: how many stand in blocks, are derived, given, computed."""

    found: int
    derived: int
    given: int
    computed: int
    faults: tuple[Fault, ...]


def sections(page: str) -> list[tuple[int, int]]:
    """Return where a page's sections of the second level begin and end."""
    cuts = [0, *(m.start() for m in _HEADING.finditer(blanked(page, _FENCE))), len(page)]
    return list(pairwise(cuts))


def plain_blocks(page: str) -> list[tuple[int, int]]:
    """Return where tables and outputs without markers stand that follow on a command's name."""
    (_, head), *_ = sections(page)
    found = []
    spans = [m.span() for m in _FENCE.finditer(page) if m[2] in {"", "text"}]
    spans += [m.span() for m in _TABLE.finditer(blanked(page, _FENCE))]
    for start, end in spans:
        begin = next(a for a, b in sections(page) if a <= start < b)
        if _COMMAND.search(page[begin:start]) or _COMMAND.search(page[: min(head, start)]):
            found.append((start, end))
    return [(a, b) for a, b in found if numbers(page[a:b])]


def numbers(text: str) -> set[Decimal]:
    """Return the figures of a block, without signs, times, counts and what stands in code.

    >>> sorted(map(str, numbers("| `x1` | 89.0 ±2.4 | −1.6 (−2.5 to −0.7) | 366 ms | 1.90k |")))
    ['0.7', '1.6', '2.4', '2.5', '89.0']
    """
    text = blanked(blanked(text, _CODE), _DATE)
    return {
        Decimal(m["number"].replace(",", ""))
        for m in _FIGURE.finditer(text)
        if not _UNIT.match(text[m.end() :])
    }


def sources(page: str) -> list[tuple[int, bool, set[Decimal]]]:
    """Return a page's blocks: where each begins, whether it is withdrawn, and its figures."""
    marked, _ = blocks(page)
    own = [b for b in marked if b.kind != COMPUTED]
    found = [(b.start, b.withdrawn, numbers(_without_head(b.body))) for b in own]
    within = [(b.start, b.end) for b in own]
    for start, end in plain_blocks(page):
        if not any(a <= start < b for a, b in within):
            found.append((start, False, numbers(page[start:end].replace("`", " "))))
    return found


def _without_head(body: str) -> str:
    """Return a block without the lines that say how it was made."""
    return "\n".join(x for x in body.splitlines() if not _COMMAND.search(x) and "sha256" not in x)


def figures(page: str, name: str) -> list[Figure]:
    """Return the figures of a page's remarks; blocks are not looked at."""
    marked, _ = blocks(page)
    hidden = [(b.start, b.end) for b in marked if b.kind != COMPUTED] + plain_blocks(page)
    text = page
    for start, end in hidden:
        text = text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]
    for pattern in (_COMMENT, _FENCE, _CODE, _LINK, _DATE):
        text = blanked(text, pattern)
    everything = name.startswith(_RESULTS)
    hits = list(_FIGURE.finditer(text))
    sure = [_is_figure(text, hit, everything) for hit in hits]
    for order in (range(1, len(hits)), range(len(hits) - 1, 0, -1)):
        for i in order:  # an interval's other end, or the other of two that are compared
            if _JOINS.match(text[hits[i - 1].end() : hits[i].start("number")]):
                sure[i] = sure[i - 1] = sure[i] or sure[i - 1]
    return [
        Figure(Decimal(h["number"].replace(",", "")), h.start("number"), h[0].strip())
        for h, own in zip(hits, sure, strict=True)
        if own and not _UNIT.match(text[h.end() :])
    ]


def _is_figure(text: str, hit: re.Match[str], everything: bool) -> bool:
    behind, before = text[hit.end() : hit.end() + 50], text[: hit.start()][-40:]
    if hit["number"] == "95" and (_LEVEL.match(behind) or _LEVEL.match(before)):
        return False  # the level of an interval
    return bool(
        re.match(r"[\s\u00a0]?%|[\s\u00a0]+points?\b", behind)
        or hit["sign"]
        or _P.search(before)
        or (everything and "." in hit["number"])
    )


def traced(page: str, name: str, everywhere: Iterable[Decimal]) -> Traced:
    """Say what became of the figures of a page's remarks.

    Args:
        page: its text.
        name: of its file, without folders.
        everywhere: the figures of all blocks of the repository that are not withdrawn.
    """
    marked, _ = blocks(page)
    passages = [b for b in marked if b.kind == COMPUTED]
    own, everywhere = sources(page), set(everywhere)
    tally = {"found": 0, "derived": 0, "given": 0, "computed": 0}
    faults: list[Fault] = [
        Fault(p.start, "`computed` names no command, script or function of icl")
        for p in passages
        if not re.search(r"scripts/|icl[ .]|runs/", p.name)
    ]
    for start, end in sections(page):
        here = [known for at, _, known in own if start <= at < end]
        known = set().union(*here) if here else everywhere
        formulas = list(_formulas(page, start, end, known, faults))
        for figure in (f for f in figures(page, name) if start <= f.at < end):
            if figure.is_in(known):
                tally["found"] += 1
            elif any(a <= figure.at < b and figure.is_in([n]) for a, b, n in formulas):
                tally["derived"] += 1
            elif any(a <= figure.at < b and figure.is_in([n]) for a, b, n in _given(page)):
                tally["given"] += 1
            elif any(p.start <= figure.at < p.end for p in passages):
                tally["computed"] += 1
            else:
                where = "this section's blocks" if here else "any block"
                faults.append(Fault(figure.at, f"{figure.written!r} does not stand in {where}"))
    return Traced(**tally, faults=tuple(faults))


def _formulas(
    page: str, start: int, end: int, known: set[Decimal], faults: list[Fault]
) -> Iterator[tuple[int, int, Decimal]]:
    """Yield what is derived rightly: where its paragraph begins and ends, and the figure."""
    for comment in comments(page):
        formula = _FORMULA.match(comment[1])
        if not start <= comment.start() < end or formula is None:
            continue
        figure = Figure(Decimal(formula["figure"].replace(",", "")), comment.start(), formula[0])
        says = _wrong(figure, formula["formula"].replace(",", ""), known)
        if says:
            faults.append(Fault(comment.start(), f"{formula[0]!r}: {says}"))
            continue
        yield *_paragraph(page, comment), figure.number


def _given(page: str) -> Iterator[tuple[int, int, Decimal]]:
    """Yield what was set: where its paragraph begins and ends, and the figure."""
    for comment in comments(page):
        if given := _GIVEN.match(comment[1]):
            yield *_paragraph(page, comment), Decimal(given["figure"].replace(",", ""))


def _paragraph(page: str, comment: re.Match[str]) -> tuple[int, int]:
    last = page.find("\n\n", comment.end())
    return page.rfind("\n\n", 0, comment.start()) + 1, len(page) if last < 0 else last


def _wrong(figure: Figure, formula: str, known: set[Decimal]) -> str:
    """Say what is wrong with a derivation: empty where it is right within its parts' rounding."""
    try:
        tree = ast.parse(formula.strip(), mode="eval")
        value, slack = _value(tree.body, formula.strip(), known)
    except KeyError as error:
        return f"{error.args[0]} does not stand in a block"
    except (SyntaxError, ValueError, ZeroDivisionError):
        return "is no sum, difference, product or ratio"
    half = Decimal(1).scaleb(int(figure.number.as_tuple().exponent)) / 2
    return "" if abs(abs(value) - figure.number) <= half + slack else f"comes to {value:.3f}"


def _value(node: ast.expr, text: str, known: set[Decimal]) -> tuple[Decimal, Decimal]:
    """Return a formula's value, and how far rounding of its parts can have moved it."""
    if isinstance(node, ast.Constant):
        written = str(ast.get_source_segment(text, node))
        if written == "100":  # a whole in percent
            return Decimal(100), Decimal(0)
        part = Figure(Decimal(written), 0, written)
        if not part.is_in(known):
            raise KeyError(written)
        return part.number, Decimal(1).scaleb(int(part.number.as_tuple().exponent)) / 2
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATIONS)):
        raise ValueError(text)
    a, slack_a = _value(node.left, text, known)
    count = isinstance(node.op, ast.Mult | ast.Div) and isinstance(node.right, ast.Constant)
    if count and isinstance(node.right, ast.Constant) and isinstance(node.right.value, int):
        b, slack_b = Decimal(node.right.value), Decimal(0)  # how many, as in a mean
    else:
        b, slack_b = _value(node.right, text, known)
    if isinstance(node.op, ast.Add | ast.Sub):
        return (a + b if isinstance(node.op, ast.Add) else a - b), slack_a + slack_b
    if isinstance(node.op, ast.Mult):
        return a * b, abs(a) * slack_b + abs(b) * slack_a
    return a / b, (slack_a + abs(a / b) * slack_b) / abs(b)


def of_repository(pages: Sequence[str]) -> set[Decimal]:
    """Return the figures of all blocks of some pages that are not withdrawn."""
    return set().union(*(known for p in pages for _, gone, known in sources(p) if not gone), set())
