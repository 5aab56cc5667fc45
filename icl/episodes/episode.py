"""`Episode`: a support set to adapt on and a query set to be judged on."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from icl.tasks.kinds.base import Kind
from icl.tasks.kinds.classification import CLASSIFICATION
from icl.tasks.kinds.posing import asked
from icl.tasks.kinds.registry import kind_from, said
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template

_KIND = b'"kind":{"name":"'  # the last part of a line
# of somebody's own kind, whose code is said too
_PLACE = re.compile(rb'\A(?:[^"\\]|\\.)*(?=:[^"\\:]+")')


def line_hash(line: bytes) -> bytes:
    """Return the fingerprint of an episode by its line of JSON, as 8 bytes."""
    episode, mark, kind = line.rpartition(_KIND)
    return hashlib.sha256(episode + mark + _PLACE.sub(b"", kind)).digest()[:8]


@dataclass(frozen=True, slots=True)
class Episode:
    """One few-shot problem, the same for every learner. Immutable, serialisable as a JSON line.

    Attributes:
        task: the task's name.
        labels: the answer space, in the order in which every score matrix has its columns.
        support: labelled examples to adapt on (empty for zero shots).
        query: labelled examples to be judged on; learners see their fields only.
        seed: the experiment's seed from which it was drawn.
        index: its place in the sequence of that seed.
        shots: examples per class in the support set, as asked for.
        split: the meta-split that it was drawn from.
        setting: the name of the experiment's setting, e.g. ``within`` or ``cross-lingual``.
        support_language, query_language: the languages of the two sets.
        pool: further labelled examples, in the support language and apart from both sets, the
            same for all shots: for learners that choose demonstrations or tune on more. Empty
            unless asked for.
        kind: what its task asks, which says what labels and answers are.
    """

    task: str
    labels: Labels
    support: tuple[Example, ...]
    query: tuple[Example, ...]
    seed: int
    index: int
    shots: int
    split: str
    setting: str
    support_language: str
    query_language: str
    pool: tuple[Example, ...] = ()
    kind: Kind = CLASSIFICATION

    @property
    def ways(self) -> int:
        """The number of labels."""
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """A hash of everything in the episode: 16 hexadecimal digits of SHA-256."""
        return line_hash(self.to_json().encode()).hex()

    def to_json(self) -> str:
        """Serialise as one line of canonical JSON (UTF-8, keys in the order of declaration).

        Keys are not sorted: the order of an example's fields decides its `text`.
        """
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["labels"] = asdict(self.labels)
        for side in ("support", "query", "pool"):
            data[side] = [_example(e) for e in data[side]]
        if not self.pool:  # as before there were pools, so that fingerprints stay
            del data["pool"]
        del data["kind"]  # written where it is another than before there were kinds, likewise
        if self.kind != CLASSIFICATION:
            data["kind"] = said(self.kind)
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Episode:
        """Read what `to_json` wrote.

        Raises:
            IclError: its kind is not there any more, or has changed since.
        """
        data: dict[str, Any] = json.loads(line)
        labels = data.pop("labels")
        names, words = tuple(labels["names"]), tuple(labels["words"])
        # before episodes said their kind, those without labels were of generation
        kind = data.pop("kind", {"name": "classification" if names else "generation"})
        return cls(
            labels=Labels(names, words, Template(**labels["template"])),
            support=tuple(Example(**e) for e in data.pop("support")),
            query=tuple(Example(**e) for e in data.pop("query")),
            pool=tuple(Example(**e) for e in data.pop("pool", ())),
            kind=kind_from(kind),
            **data,
        )

    def posed(self) -> Episode:
        """Return the episode as learners see it: one of plain examples, a question each."""
        space = self.kind.space(self.labels)
        sides: dict[str, Any] = {
            side: tuple(
                question
                for example in getattr(self, side)
                for question in asked(self.kind, example, self.labels, space)
            )
            for side in ("support", "query", "pool")
        }
        return replace(self, labels=space, **sides)


def _example(example: Example) -> dict[str, Any]:
    """Turn an example into JSON values; its fields may be any mapping."""
    data = {f.name: getattr(example, f.name) for f in fields(example)}
    data["fields"] = dict(example.fields)
    if not example.domain:  # as before there were domains, so that fingerprints stay
        del data["domain"]
    return data
