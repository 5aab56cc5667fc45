"""10,000 mutated definitions and data files: one sentence or the right thing, never a traceback.

A mutation either breaks a rule on purpose, and must then be refused, or changes bytes at random,
and must then be refused or read as an independent reader reads it.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from icl.errors import IclError
from icl.tasks.definitions.extends import read_definition
from icl.tasks.definitions.family import Definition
from icl.tasks.family import build_family
from icl.tasks.kinds.registry import kind_name
from icl.tasks.task import normalise
from tests.tasks.helpers import definition

pytestmark = pytest.mark.slow

BATCHES = range(10)
DEFINITIONS, DATA_FILES = 300, 700  # in each batch

LABELS = ("good", "bad", "so-so")
TEXTS = [
    "plain",
    "with, comma",
    'a "quote"',
    "ไทย",
    "العربية",
    "emoji 🙂",
    "tab?",
    "naïve",
    "x" * 300,
]
ROWS = [{"id": f"r{i}", "text": f"{TEXTS[i % 9]} {i}", "label": LABELS[i % 3]} for i in range(24)]

BASE: dict[str, Any] = definition(
    data=["train", "test"],
    citation="Someone 2020",
    sources=[
        {
            "type": "directory", "root": ".", "file": "{language}-{split}.jsonl",
            "columns": {"id": "id", "label": "label", "fields": {"text": "text"}},
        }
    ],
    tasks={
        "mood": {
            "labels": list(LABELS),
            "label_map": {"fine": "good"},
            "skip": ["?"],
            "words": {"default": {"so-so": "neutral"}, "de": {"good": "gut", "bad": "schlecht"}},
            "templates": {
                "plain": {
                    "input": "{{ text }} =",
                    "languages": {"de": {"input": "„{{ text }}“ ="}},
                },
                "asks": {"input": "How is {{ text | upper }}?", "instruction": "Say.\n"},
            },
        },
        "free": {
            "kind": "generation", "metrics": ["chrf"], "template": {"input": "{{ text }} ->"},
        },
    },
    splits={
        "train": {"languages": ["en", "de"], "tasks": ["mood"], "data": ["train"]},
        "test": {
            "tasks": ["mood"], "languages": ["en", "de"], "data": ["test"],
            "labels": ["good", "bad"],
        },
        "written": {"tasks": ["free"], "languages": ["en", "de"], "data": ["test"]},
    },
    disjoint=[["train", "test", "id"]],
)  # fmt: skip

JUNK: list[Any] = [None, "", 7, -1.5, True, [], {}, [1], {"a": 1}, "{{", "\x07", "😀" * 50]
ESCAPES = [
    "{{ text.__class__.__mro__ }}", "{{ ''['__class__'] }}", "{{ text|attr('__init__') }}",
    "{% import 'os' as os %}{{ text }}", "{% include '/etc/passwd' %}{{ text }}",
    "{{ text }}{% macro m() %}{% endmacro %}", "{{ self }}{{ text }}", "{{ text", "{% for %}",
    "{{ nothing }}", "{{ text }}{{ cycler }}", "{{ text | nofilter }}", "{% extends 'x' %}",
]  # fmt: skip


INSERTS = [
    b"\x00", b"\xff", b"\t", b'"', b",", b"\r", b"\n", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"&a ",
    b"*a", b"!!python/name:os.system ", b"{", b"]", b": ", b"# ",
]  # fmt: skip


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of everything inside a value."""
    found = [at] if at else []
    if isinstance(value, dict | list):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            found += paths(inside, (*at, key))
    return found


def put(value: Any, at: tuple[Any, ...], new: Any) -> None:
    for step in at[:-1]:
        value = value[step]
    value[at[-1]] = new


def get(value: Any, at: tuple[Any, ...]) -> Any:
    for step in at:
        value = value[step]
    return value


def misspelt(rng: random.Random, value: dict[str, Any]) -> None:
    """Rename a field of the schema, at any depth where names are fixed."""
    named = [(), ("sources", 0), ("sources", 0, "columns"), ("tasks", "mood"), ("tasks", "free"),
             ("splits", "train"), ("tasks", "mood", "templates", "plain")]  # fmt: skip
    parent = get(value, rng.choice(named))
    key = rng.choice([k for k in parent if k not in ("extends",)])
    parent[f"{key}{rng.choice('sxy_')}"] = parent.pop(key)


def missing(rng: random.Random, value: dict[str, Any]) -> None:
    at = rng.choice(
        [("schema_version",), ("name",), ("description",), ("licence",), ("sources",), ("tasks",),
         ("splits",), ("sources", 0, "type"), ("sources", 0, "root"), ("sources", 0, "columns"),
         ("sources", 0, "columns", "label"), ("sources", 0, "columns", "fields"),
         ("tasks", "mood", "labels"), ("tasks", "mood", "templates"), ("tasks", "free", "metrics"),
         ("tasks", "free", "template", "input"), ("splits", "train", "languages"), ("data",)]
    )  # fmt: skip
    del get(value, at[:-1])[at[-1]]


def broken(rng: random.Random, value: dict[str, Any]) -> None:
    """Break one of the rules that bind the parts together."""
    rules: list[tuple[tuple[Any, ...], Any]] = [
        (("tasks", "mood", "labels"), ["good", "bad", "bad"]),
        (("tasks", "mood", "labels"), ["good"]),
        (("tasks", "mood", "labels", 1), "  "),
        (("tasks", "mood", "label_map", "fine"), "nice"),
        (("tasks", "mood", "words", "de", "nice"), "schön"),
        (("tasks", "mood", "words", "de", "bad"), "gut"),
        (("tasks", "mood", "metrics"), ["bleu"]),
        (("tasks", "mood", "template"), {"input": "{{ text }}"}),
        (("tasks", "mood", "templates", "plain", "target"), "{{ text }}"),
        (("tasks", "mood", "templates", "plain", "input"), "no field"),
        (("tasks", "mood", "templates", "plain", "languages", "de", "input"), "{{ txt }}"),
        (("tasks", "free", "labels"), ["a", "b"]),
        (("tasks", "free", "metrics"), ["accuracy"]),
        (("tasks", "mood", "kind"), "multiple_choice"),
        (("sources", 0, "file"), "rows.jsonl"),
        (("sources", 0, "file"), "{language}/{part}.jsonl"),
        (("sources", 0, "file"), "{language}/{split}.xls"),
        (("splits", "train", "tasks"), ["moods"]),
        (("splits", "train", "data"), ["dev"]),
        (("splits", "test", "labels"), ["nice"]),
        (("splits", "written", "labels"), ["good"]),
        (("splits", "test", "share"), [0.8, 0.2]),
        (("splits", "train", "languages"), []),
        (("splits", "train", "languages"), ["en", "en"]),
        (("splits", "train", "data"), ["train", "test"]),
        (("disjoint",), [["train", "test", "language"]]),
        (("disjoint",), [["train", "dev", "id"]]),
        (("disjoint",), [["train", "test", "sentence"]]),
        (("schema_version",), 2),
        (("name",), "No Name"),
        (("extends",), "no-such-family"),
        (("extends",), "./fuzz.yaml"),
    ]
    at, new = rng.choice(rules)
    put(value, at, new)


def escaping(rng: random.Random, value: dict[str, Any]) -> None:
    at = rng.choice([
        ("tasks", "mood", "templates", "plain", "input"),
        ("tasks", "mood", "templates", "plain", "languages", "de", "input"),
        ("tasks", "free", "template", "input"),
    ])  # fmt: skip
    put(value, at, rng.choice(ESCAPES))


PURPOSEFUL = [misspelt, missing, broken, escaping]


def scrambled(rng: random.Random, value: dict[str, Any]) -> None:
    """Put junk, or another part of the definition, anywhere."""
    places = paths(value)
    at = rng.choice(places)
    new = rng.choice(JUNK) if rng.random() < 0.6 else copy.deepcopy(get(value, rng.choice(places)))
    put(value, at, new)


def bitten(rng: random.Random, data: bytes) -> bytes:
    """Change bytes: flip, drop, double, cut, insert."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(out) or 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + rng.choice([1, 1, 8, 60])]
        elif kind == 2:
            out[at:at] = out[at : at + rng.choice([1, 8, 60])]
        elif kind == 3 and rng.random() < 0.3:
            del out[at:]
        elif kind == 4:
            out[at:at] = rng.choice(INSERTS)
        else:
            end = min(len(out), at + 20)
            rng.shuffle(part := list(out[at:end]))
            out[at:end] = bytes(part)
    return bytes(out)


def assert_one_sentence(error: IclError, *named: str) -> None:
    message = str(error)
    assert "\n" not in message.strip()
    assert message[-1:] in ".?", message
    for name in named:
        assert name in message, message


def attempt(action: Callable[[], Any], what: object) -> Any:
    """Return what the action gives, or the `IclError` that it raises; nothing else may come."""
    try:
        return action()
    except IclError as error:
        return error
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__}: {error}\nof\n{what}") from error


def said_in_full(raw: Any, found: Any) -> None:
    """Check that all that a file says is in the definition that was read from it."""
    if isinstance(raw, dict):
        assert isinstance(found, dict), (raw, found)
        for key, value in raw.items():
            if value is not None:
                said_in_full(value, found[key if isinstance(key, str) else str(key)])
    elif isinstance(raw, list):
        assert len(raw) == len(found)
        for one, other in zip(raw, found, strict=True):
            said_in_full(one, other)
    elif isinstance(raw, bool):
        assert found in (raw, str(raw).lower())
    elif raw is not None:
        assert found == raw or str(found) == str(raw), (raw, found)


def told(read: Definition) -> dict[str, Any]:
    """Write a definition out as its file does: what a kind takes stands beside the task's own."""
    out = read.model_dump(mode="json")
    for name, task in read.tasks.items():
        kind = {"kind": kind_name(task.kind)} | task.kind.model_dump(mode="json")
        out["tasks"][name] |= kind
    return out


def assert_consistent(read: Definition) -> None:
    """Check again, in plain words, what a definition must keep."""
    assert read.tasks
    assert read.splits
    for task in read.tasks.values():
        assert len(set(task.labels)) == len(task.labels)
        assert task.kind.writes == (not task.labels) == bool(getattr(task.kind, "metrics", ()))
        assert set(task.label_map.values()) <= set(task.labels)
        assert task.named_templates
        for language in (*task.words, "any"):
            words = task.words_in(language)
            assert len(set(words.values())) == len(task.labels)
        for template in task.named_templates.values():
            for language in (*template.languages, "any"):
                shown = template.build(language)
                assert "__" not in shown.input
    for split in read.splits.values():
        assert split.languages
        assert set(split.tasks or ()) <= set(read.tasks)
        assert set(split.data or ()) <= set(read.data)
    for one, other, kind in read.disjoint:
        a, b = read.splits[one], read.splits[other]
        if kind == "language":
            assert not set(a.languages) & set(b.languages)
        if kind == "task":
            assert not set(read.tasks_of(a)) & set(read.tasks_of(b))
        if kind == "id" and a.share is b.share is None:
            assert not set(a.data or read.data) & set(b.data or read.data)


@pytest.mark.parametrize("batch", BATCHES)
def test_mutated_definitions(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "fuzz.yaml"
    refused = 0
    for number in range(DEFINITIONS):
        rng = random.Random(f"definition {batch} {number}")
        value = copy.deepcopy(BASE)
        mutate = rng.choice([*PURPOSEFUL, *PURPOSEFUL, scrambled, scrambled, None, None])
        if mutate is not None:
            mutate(rng, value)
        data = yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
        if mutate is None:
            data = bitten(rng, data)
        path.write_bytes(data)
        found = attempt(lambda: read_definition(path), data.decode("utf-8", "replace"))
        if isinstance(found, IclError):
            assert_one_sentence(found, "fuzz.yaml")
            refused += 1
            continue
        assert mutate not in PURPOSEFUL, f"{mutate} was taken for right:\n{data.decode()}"
        assert_consistent(found)
        if found.extends is None and b"no\n" not in data:
            raw = yaml.safe_load(data)
            raw["sources"][0].pop("root")  # it starts from the file's own directory
            said_in_full(raw, told(found))
    assert DEFINITIONS * 0.6 < refused < DEFINITIONS, "both outcomes are met"


def write_rows(rows: list[dict[str, Any]], suffix: str) -> bytes:
    if suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif suffix == ".json":
        text = json.dumps(rows, ensure_ascii=False, indent=1)
    else:
        out = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        plain = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        writer = csv.DictWriter(
            out, names, lineterminator="\n", **(plain if suffix == ".tsv" else {})
        )
        writer.writeheader()
        # before Python 3.11 no zero byte can be written
        writer.writerows({k: v.replace("\0", "\x01") for k, v in row.items()} for row in rows)
        text = out.getvalue().replace("\x01", "\0")
    return text.encode("utf-8", "surrogatepass")


def no_twice(items: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in items}) == len(items)
    return dict(items)


def no_constant(name: str) -> Any:
    raise ValueError(name)


def strict_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=no_twice, parse_constant=no_constant)


def independent(data: bytes, suffix: str) -> list[tuple[str, str, str]]:
    """Read (id, text, label) rows with the standard library; raises whatever it likes."""
    text = data.decode("utf-8-sig")
    if suffix == ".jsonl":
        rows = [strict_json(line) for line in text.split("\n") if line.strip()]
    elif suffix == ".json":
        rows = strict_json(text)
        assert isinstance(rows, list)
    else:
        plain = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if suffix == ".tsv" else {}
        lines = text.split("\n")
        table = list(csv.reader((f"{x}\n" for x in lines[:-1] + lines[-1:]), strict=True, **plain))
        header, *values = [row for place, row in enumerate(table) if row or not place]
        assert len(set(header)) == len(header) > 0
        assert all(name.strip() for name in header)
        rows = [dict(zip(header, value, strict=True)) for value in values]
    found = []
    for row in rows:
        cells = []
        for name in ("id", "text", "label"):
            cell = row[name]
            if isinstance(cell, bool):
                cell = str(cell).lower()
            elif isinstance(cell, list):
                assert all(isinstance(word, str) for word in cell)
                cell = " ".join(cell)
            assert isinstance(cell, str | int | float)
            str(cell).encode()
            assert "\0" not in str(cell)
            cells.append(str(cell))
        if cells[2] == "?":
            continue
        cells[2] = {"fine": "good"}.get(cells[2], cells[2])
        assert cells[2] in LABELS
        assert cells[0].strip()
        assert normalise(cells[1])
        found.append(tuple(cells))
    assert len({cells[0] for cells in found}) == len(found)
    return found  # type: ignore[return-value]


def spoilt(rng: random.Random, suffix: str) -> tuple[bytes, int | None]:
    """Break one row on purpose; return the file and the row's number as a person counts."""
    rows = copy.deepcopy(ROWS)
    place = rng.randrange(len(rows))
    row = rows[place]
    faults: list[Callable[[], Any]] = [
        lambda: row.update(label="nice"),
        lambda: row.update(label=""),
        lambda: row.update(text=rng.choice(["", "  ", "\u2003"])),
        lambda: row.update(id=rows[place - 1]["id"]),
        lambda: row.update(id=" "),
        lambda: row.update(text="a\0b"),
    ]
    if suffix in (".jsonl", ".json"):
        faults += [
            lambda: row.pop(rng.choice(["id", "text", "label"])),
            lambda: row.update(text=None),
            lambda: row.update(text={"a": 1}),
            lambda: row.update(label=[1]),
            lambda: row.update(text="\ud800"),
        ]
    rng.choice(faults)()
    number = place + 1 if suffix in (".jsonl", ".json") else place + 2
    if place == 0 and row.get("id") == rows[-1]["id"]:  # its double is the last row
        number = len(rows) + (suffix in (".csv", ".tsv"))
    lines = write_rows(rows, suffix)
    wrong_bytes = b"\xed\xa0\x80" in lines
    return lines, None if wrong_bytes and suffix == ".json" else number


@pytest.mark.parametrize("batch", BATCHES)
def test_mutated_data_files(tmp_path: Path, batch: int) -> None:
    read = 0
    for number in range(DATA_FILES):
        rng = random.Random(f"data {batch} {number}")
        suffix = rng.choice([".jsonl", ".json", ".csv", ".tsv"])
        source = BASE["sources"][0] | {"root": str(tmp_path), "file": f"rows{suffix}"}
        value = copy.deepcopy(BASE) | {"sources": [source], "data": ["all"], "disjoint": []}
        for split in value["splits"].values():
            split["data"] = ["all"]
        parsed = Definition.model_validate(value)
        on_purpose = rng.random() < 0.4
        if on_purpose:
            data, row = spoilt(rng, suffix)
        else:
            data, row = bitten(rng, write_rows(ROWS, suffix)), None
        (tmp_path / f"rows{suffix}").write_bytes(data)
        found = attempt(lambda: build_family(parsed).load("mood", "en").examples, data)  # noqa: B023
        if isinstance(found, IclError):
            assert_one_sentence(found, f"rows{suffix}", *([f"row {row}:"] if row else []))
        else:
            assert not on_purpose, f"taken for right: {data!r}"
        if on_purpose:
            continue
        try:
            expected = independent(data, suffix)
        except Exception as error:
            assert isinstance(found, IclError), f"{error!r}, but read: {data!r}"
        else:
            assert not isinstance(found, IclError), f"{found}, but fine: {data!r}"
            assert [
                (e.parallel_id.removeprefix("all/"), e.text, e.label) for e in found
            ] == expected
            read += 1
    assert read > DATA_FILES * 0.1, "both outcomes are met"
