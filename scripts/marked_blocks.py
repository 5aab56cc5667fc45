"""Parts of a page that a script writes, between two marker comments, with a checksum in the second.

    <!-- run: NAME -->
    what the script wrote
    <!-- end of NAME, sha256 0123456789abcdef -->

Blocks of a run begin with ``run:``, those of other scripts with ``by script:`` or with their name
alone. Blocks of runs are always sealed; another script's is where it calls `sealed`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_FENCE = re.compile(r"^(`{3,}).*?^\1`*\s*$", re.MULTILINE | re.DOTALL)
_END = re.compile(r"end of (?P<name>.+?)(?:, sha256 (?P<seal>[0-9a-f]+))?$")
_OPENING = re.compile(r"(?P<kind>run|by script|computed): (?P<name>.+)$", re.DOTALL)
_TABLE = {"table: begin": "table", "table: end": "end of table"}
COMPUTED = "computed"
RUN = "run"


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two markers.

    Attributes:
        kind: ``run``, ``by script``, ``computed`` (a passage of remarks) or empty.
        name: the run's or the script's; of a passage, what computed its figures.
        body: the text between the markers.
        seal: the checksum in its end marker, if it has one.
        start, end: where it stands in the page, with its markers.
    """

    kind: str
    name: str
    body: str
    seal: str | None
    start: int
    end: int

    @property
    def withdrawn(self) -> bool:
        """Whether its figures are no longer those of the configuration that it names."""
        return re.search(r"^\*\*Withdrawn\*\*", self.body, re.MULTILINE) is not None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in a page, and in which place of its text."""

    at: int
    says: str


def checksum(body: str) -> str:
    """Return the checksum of a block's text: 16 hexadecimal digits."""
    return hashlib.sha256(body.strip().encode()).hexdigest()[:16]


def sealed(kind: str, name: str, body: str) -> str:
    """Return a whole block, markers and checksum included."""
    opening = f"{kind}: {name}" if kind else name
    body = body.strip("\n")
    return f"<!-- {opening} -->\n{body}\n<!-- end of {name}, sha256 {checksum(body)} -->"


def put(page: str, kind: str, name: str, body: str) -> str:
    """Return a page's text with a block replaced, or added at its end.

    >>> page = put("a", "run", "x", "old")
    >>> put(page, "run", "x", "new").splitlines()[2:4]
    ['<!-- run: x -->', 'new']
    """
    found, _ = blocks(page)
    new = sealed(kind, name, body)
    for block in found:
        if (block.kind, block.name) == (kind, name):
            return page[: block.start] + new + page[block.end :]
    return f"{page.rstrip()}\n\n{new}\n".lstrip("\n")


def blanked(text: str, pattern: re.Pattern[str]) -> str:
    """Return a text in which what a pattern finds is blank, so that all else keeps its place."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def comments(page: str) -> Iterator[re.Match[str]]:
    """Find a page's comments, save those that it shows in fenced code."""
    yield from _COMMENT.finditer(blanked(page, _FENCE))


def blocks(page: str) -> tuple[list[Block], list[Fault]]:
    """Return the blocks of a page in order, and what is wrong with its markers and checksums."""
    found: list[Block] = []
    faults: list[Fault] = []
    ends = {m["name"] for c in comments(page) if (m := _END.match(_TABLE.get(c[1], c[1])))}
    opened: tuple[str, str, int, int] | None = None
    for comment in comments(page):
        said = _TABLE.get(comment[1], comment[1])
        closing, opening = _END.match(said), _OPENING.match(said)
        if closing:
            name = closing["name"]
            if opened is None or name != (COMPUTED if opened[0] == COMPUTED else opened[1]):
                faults.append(Fault(comment.start(), f"an end of {name!r} that has not begun"))
                continue
            kind, own, start, inner = opened
            body = page[inner : comment.start()]
            opened = None
            found.append(Block(kind, own, body, closing["seal"], start, comment.end()))
            faults += _seal_faults(found[-1])
        elif opening or said in ends:
            if opened is not None:
                faults.append(Fault(opened[2], f"the block {opened[1]!r} has no end"))
            kind, own = (opening["kind"], opening["name"]) if opening else ("", said)
            opened = (kind, own, comment.start(), comment.end())
    if opened is not None:
        faults.append(Fault(opened[2], f"the block {opened[1]!r} has no end"))
    return found, faults


def _seal_faults(block: Block) -> Iterator[Fault]:
    if block.seal is None:
        if block.kind == RUN:
            told = f"the block {block.name!r} has no checksum; write it again from its run"
            yield Fault(block.start, told)
    elif block.seal != checksum(block.body):
        told = f"the block {block.name!r} was changed after it was written"
        yield Fault(block.start, told)
