"""The part of a model card that shows how an export is loaded without icl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from icl.reporting.numbers import markdown


@dataclass(frozen=True, slots=True)
class Exported:
    """What `icl.exchange.adapter.export_learner` has written.

    Attributes:
        folder: the directory.
        adapter: whether a PEFT adapter is in it.
        sentence: whether it is a model of sentence-transformers.
        head: whether it has a ``head.py``.
        inner: whether it has an ``adapt.py``.
        base: whether it has the base model in ``base``.
    """

    folder: Path
    adapter: bool
    sentence: bool
    head: bool = False
    inner: bool = False
    base: bool = False


def use(exported: Exported, base: str) -> list[str]:
    """Write how an export is used, part by part; each block runs in the exported directory.

    Args:
        exported: what there is.
        base: the base model's name, as code has it: a Hub id, or words for where it is.
    """
    parts = []
    if exported.sentence:
        parts.append(
            "Run this in a copy of this directory (`pip install sentence-transformers`); nothing of"
            " icl is needed. The model is whole: an adapter is merged into its weights. A text of"
            " several fields is its fields, a line each."
        )
    if exported.head:
        parts.append(
            "```python\n"
            "from head import Head  # lies beside this card\n"
            "from sentence_transformers import SentenceTransformer\n\n"
            'model = SentenceTransformer(".")\n'
            'texts, labels = ["one label\'s text", "another\'s text"], ["a", "b"]\n'
            'task = Head(".").fit(model.encode(texts), labels)\n'
            'print(task.predict(model.encode(["a new text"])))\n'
            "```"
        )
    elif exported.sentence:
        parts.append(
            "```python\n"
            "from sentence_transformers import SentenceTransformer\n\n"
            'model = SentenceTransformer(".")\n'
            'print(model.encode(["a text"]).shape)\n'
            "```"
        )
    if exported.inner:
        given = '"."' if exported.base else f'".", {base!r}'
        parts += [
            "These are vectors of the start, before it has seen a task. The figures below are of"
            " the start adapted to each task by the method's inner steps, which `adapt.py` takes"
            " with torch and PEFT alone:",
            "```python\n"
            "from adapt import Start  # lies beside this card\n\n"
            f"start = Start({given})\n"
            'texts, labels = ["one label\'s text", "another\'s text"], ["a", "b"]\n'
            "task = start.adapt(texts, labels)\n"
            'print(task.predict(["a new text"]))\n'
            "```",
        ]
    if exported.adapter:
        kind = "AutoModel" if exported.sentence else "AutoModelForCausalLM"
        place = "./base" if exported.base else base
        where = "adapter" if exported.sentence else "."
        parts += [
            "The adapter alone, on the base that it was trained on:",
            "```python\n"
            "from peft import PeftModel\n"
            f"from transformers import {kind}\n\n"
            f"base = {kind}.from_pretrained({place!r})\n"
            f"model = PeftModel.from_pretrained(base, {where!r})\n"
            "```",
        ]
    return parts


def title(exported: Exported, name: str, base: str) -> str:
    """Name the export."""
    what = "sentence-transformers model" if exported.sentence else "adapter"
    return f"# {markdown(name)}: a meta-learned {what} of {markdown(base)}"
