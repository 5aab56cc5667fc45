"""What decides a number is changed, alone; exactly what hangs on it is done again.

A place holds a copy of the package, a tiny model, an adapter, data, somebody's own method with a
helper, and an experiment and two labellings that are done. Each test copies it, changes one thing,
carries on there, and counts what has been added.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import icl
from tests import tiny
from tests.models.adapters.test_peft_start import save_adapter
from tests.place import FAMILY, write_data
from tests.runs import carry_on

BASE = (
    FAMILY.replace("name: things", "name: base")
    .replace("    template:", "    words: {default: {star: sun}}\n    template:")
    .replace("train: {languages: [aa, bb]}", "train: {languages: [aa]}")
    .replace("test: {languages: [cc, dd]}", "test: {languages: [cc]}")
)
THINGS = "extends: base.yaml\nname: things\n"
EXPERIMENT = """\
schema_version: 1
name: tiny
model: {name: model}
tasks: {family: things.yaml, data: data}
episodes: {ways: 2, shots: [1], queries: 2, count: 5}
learners:
  majority: {method: majority}
  tfidf: {method: tfidf}
  prototypes: {method: prototypes}
  in-context: {method: in-context}
  lora: {method: lora, steps: 1, rank: 4, alpha: 12, start: adapter}
  mine: {method: "methods/mine.py:Mine"}
  fomaml:
    method: fomaml
    inner_steps: 1
    training: {steps: 1, meta_batch: 1, shots: 1, queries: 2}
"""
MINE = """\
from icl.learners import Params
from icl.learners.baselines.majority import Majority

class Mine(Majority):
    method = "mine"

    @classmethod
    def needs(cls, params):  # so that its labelling hangs on the model too
        return frozenset({"weights"})

    def __init__(self, backbone, params):
        pass

    def adapt(self, support, labels):
        from my_helper import some
        return super().adapt(some(support), labels)
"""
HELPER = "def some(support):\n    return support[:1]\n"
LEARNERS = ("majority", "tfidf", "prototypes", "in-context", "lora", "mine", "fomaml")
EPISODES = 5
NEW_ROWS = 4
WIDTH = 32


def begin(place: Path) -> Path:
    """Write a place where nothing is done yet."""
    package = Path(icl.__file__).parent
    shutil.copytree(package, place / "package/icl", ignore=shutil.ignore_patterns("_shipped"))
    tiny.save(place / "model")
    save_adapter(place / "adapter")
    write_data(place / "data", ("aa", "cc"), each=3)
    (place / "methods").mkdir()
    labelled = "text,label\n" + "".join(f"an example {i},{'ab'[i % 2]}\n" for i in range(4))
    new = "text\n" + "".join(f"a new one {i}\n" for i in range(NEW_ROWS))
    for name, text in {
        "base.yaml": BASE, "things.yaml": THINGS, "experiment.yaml": EXPERIMENT,
        "methods/mine.py": MINE, "methods/my_helper.py": HELPER, "labelled.csv": labelled,
        "new.csv": new,
    }.items():  # fmt: skip
        (place / name).write_text(text)
    return place


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Return what replaces a part of a file, once."""

    def change(place: Path) -> None:
        text = (place / name).read_text("utf-8")
        assert old in text, (name, old)
        (place / name).write_text(text.replace(old, new, 1), "utf-8")

    return change


def edit_json(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        said = json.loads((place / name).read_text("utf-8"))
        assert said != said | fields
        (place / name).write_text(json.dumps(said | fields), "utf-8")

    return change


def turn(place: Path) -> None:
    """Change rope's base, wherever this transformers keeps it."""
    text = (place / "model/config.json").read_text("utf-8")
    changed = re.sub(r'("rope_theta": )[\d.]+', r"\g<1>500.0", text)
    assert changed != text
    (place / "model/config.json").write_text(changed, "utf-8")


def nudge(name: str, tensor: str, row: int) -> Callable[[Path], None]:
    """Return what changes one row of a tensor; the file's size and time stay."""

    def change(place: Path) -> None:
        path = place / name
        before, tensors = path.stat(), load_file(path)
        (found,) = [key for key in sorted(tensors) if key.endswith(tensor)][:1]
        tensors[found][row] += 0.5
        save_file(tensors, path, metadata={"format": "pt"})
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def move(place: Path) -> None:
    """Move a module of icl, and somebody's own method, to where nobody has looked before."""
    package = place / "package/icl"
    (package / "learners/embedding/heads/fitted.py").rename(package / "models/rules.py")
    met = 0
    for path in package.rglob("*.py"):
        text = path.read_text("utf-8")
        moved = text.replace("icl.learners.embedding.heads.fitted", "icl.models.rules")
        met += moved != text
        path.write_text(moved, "utf-8")
    assert met
    (place / "methods/deeper").mkdir()
    (place / "methods/mine.py").rename(place / "methods/deeper/yours.py")
    edit("experiment.yaml", "methods/mine.py", "methods/deeper/yours.py")(place)


COMMENTED = "    def prefix(self, demonstrations:"
TEMPLATE = "package/icl/tasks/template.py"
CHANGES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda place: None,
    "a comment": edit(TEMPLATE, COMMENTED, f"    # as it was\n\n{COMMENTED}"),
    "a moved file": move,
    "an unrelated method": edit(
        "package/icl/learners/embedding/setfit.py", "return", "_ = 1\n    return"
    ),
    "template code": edit(TEMPLATE, "return self.instruction +", 'return self.instruction + "!" +'),
    "embedding code": edit(
        "package/icl/models/embedding/pooling.py", "return states[:, 0]", "return states[:, 0] + 1"
    ),
    "training code": edit("package/icl/training/outer.py", "\n\n\n", "\n\n\nEXTRA = 1\n\n\n"),
    "a helper of an own method": edit("methods/my_helper.py", "[:1]", "[:2]"),
    "tokenizer.json": edit_json("model/tokenizer.json", normalizer={"type": "Lowercase"}),
    "the chat template": lambda place: (place / "model/chat_template.jinja").write_text("{{ 1 }}"),
    "rope_theta": turn,
    "a row of the embedding matrix": nudge("model/model.safetensors", "embed_tokens.weight", 77),
    "the adapter's file": nudge("adapter/adapter_model.safetensors", "lora_B.weight", 1),
    "a row of the data": edit("data/cc/all.jsonl", "cc pla number 1", "cc pla number one"),
    "a row to train on": edit("data/aa/all.jsonl", "aa sto number 2", "aa sto number two"),
    "a word of a label": edit("base.yaml", "star: sun", "star: moon"),
    "a file named by extends": edit("base.yaml", "Kind:", "Sort:"),
    "a labelled row": edit("labelled.csv", "an example 2", "an example two"),
    "a row to label": edit("new.csv", "a new one 3", "a new one three"),
}


def work(*places: Path) -> None:
    """Carry on in each place, in processes of their own."""
    command = [sys.executable, carry_on.__file__, *map(str, places)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr


def counted(place: Path) -> Counter[str]:
    """Count records by learner, embeddings, meta-trainings, and rows of labellings by method."""
    found: Counter[str] = Counter()
    for line in (place / "run/records.jsonl").read_text("utf-8").splitlines():
        found[json.loads(line)["learner"]] += 1
    for vectors in (place / "embeddings").glob("*.vectors"):
        found["embeddings"] += vectors.stat().st_size // (16 + 4 + 4 * WIDTH + 8)
    found["trainings"] = len(list((place / "run/meta").glob("*/finished.json")))
    for journal in place.glob(".*.csv.*.part"):
        found[f"rows of {journal.name.split('.')[1]}"] += len(journal.read_bytes().splitlines())
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the place where all is done, and one for each change in which work was carried on."""
    folder = tmp_path_factory.mktemp("places")
    first = begin(folder / "first")
    work(first)
    found = {"first": first}
    for name, change in CHANGES.items():
        place = found[name] = folder / name.replace(" ", "-")
        shutil.copytree(first, place)
        change(place)
    work(*(found[name] for name in CHANGES))
    return found


def episodes_with(place: Path, sign: Callable[[Any], bool]) -> int:
    lines = (place / "run/episodes.jsonl").read_text("utf-8").splitlines()
    return sum(map(sign, map(json.loads, lines)))


def expected(first: Path) -> dict[str, Counter[str]]:
    """Say what each change redoes."""
    whole = counted(first)
    assert all(whole[name] == EPISODES for name in LEARNERS)
    assert whole["trainings"] == 1
    labelling = {"rows of in-context": NEW_ROWS, "rows of mine": NEW_ROWS}
    assert labelling.items() <= whole.items()
    records = dict.fromkeys(LEARNERS, EPISODES)
    model = Counter(records | labelling | {"trainings": 1, "embeddings": whole["embeddings"]})

    def in_episode(part: str) -> Callable[[Any], bool]:
        return lambda episode: part in json.dumps(episode, ensure_ascii=False)

    shown = episodes_with(first, in_episode('"cc pla number 1"'))
    named = episodes_with(first, lambda episode: "sun" in episode["labels"]["words"])
    assert 0 < shown < EPISODES
    assert 0 < named < EPISODES
    embedding = {"prototypes", "in-context"}  # what may embed, by its imports
    return {
        "nothing": Counter(),
        "a comment": Counter(),
        "a moved file": Counter(),
        "an unrelated method": Counter(),
        "template code": Counter(records | labelling | {"trainings": 1}),
        "embedding code": Counter(
            dict.fromkeys(embedding, EPISODES)
            | {"embeddings": whole["embeddings"], "rows of in-context": NEW_ROWS}
        ),
        "training code": Counter({"trainings": 1}),  # which ends as before
        "a helper of an own method": Counter({"mine": EPISODES, "rows of mine": NEW_ROWS}),
        "tokenizer.json": model,
        "the chat template": model,
        "rope_theta": model,
        "a row of the embedding matrix": model,
        "the adapter's file": Counter({"lora": EPISODES}),
        "a row of the data": Counter(dict.fromkeys(LEARNERS, shown) | {"embeddings": 1}),
        "a row to train on": Counter({"trainings": 1}),
        "a word of a label": Counter(dict.fromkeys(LEARNERS, named) | {"trainings": 1}),
        "a file named by extends": Counter(  # the template, in which a causal model embeds texts
            records | {"trainings": 1, "embeddings": whole["embeddings"]}
        ),
        "a labelled row": Counter(labelling),
        "a row to label": Counter(dict.fromkeys(labelling, 1)),
    }


def learned(place: Path) -> str:
    """Return the digest of what the meta-learner has learned."""
    rows = json.loads((place / "run/run.json").read_text("utf-8"))["learners"]
    return str(next(row["training"]["digest"] for row in rows if row["training"]))


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_redoes_what_hangs_on_it_and_nothing_else(
    name: str, places: dict[str, Path]
) -> None:
    redone = counted(places[name]) - counted(places["first"])
    wanted = expected(places["first"])[name]
    if wanted["trainings"] and learned(places[name]) != learned(places["first"]):
        wanted["fomaml"] = EPISODES  # by its state, which is another one now
    assert redone == wanted
