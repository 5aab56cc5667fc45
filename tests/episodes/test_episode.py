"""Episodes survive a trip through JSON."""

from __future__ import annotations

from types import MappingProxyType

from icl.episodes import Episode
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template


def episode() -> Episode:
    fields = MappingProxyType({"premise": "א\u2028ב", "hypothesis": 'ქართული "x"\n'})
    example = Example("1", fields, "yes", "he", "p1")
    labels = Labels(("yes", "no"), ("כן", "לא"), Template("{{ premise }}"))
    return Episode("nli", labels, (example,), (example,), 0, 0, 1, "test", "within", "he", "he")


def test_json_is_one_line_and_reads_back_equal() -> None:
    line = episode().to_json()
    assert "\n" not in line
    back = Episode.from_json(line)
    assert back == episode()
    assert back.to_json() == line
    assert back.fingerprint == episode().fingerprint


def test_the_order_of_fields_survives() -> None:
    back = Episode.from_json(episode().to_json())
    assert back.query[0].text == episode().query[0].text
