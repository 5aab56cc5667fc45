"""The pages on methods are whole and true: each method, its defaults, its figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import icl
from icl.learners.registry import learner_class, methods, validate

ROOT = Path(icl.__file__).parent.parent
PAGES = {page.stem: page.read_text("utf-8") for page in (ROOT / "docs/methods").glob("*.md")}
SECTION = re.compile(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {name: (page, text) for page, whole in PAGES.items()
            for name, text in SECTION.findall(whole)}  # fmt: skip
LINK = re.compile(r"\]\(([^)#]+\.md)")


def paragraphs(text: str, begins: str) -> list[str]:
    return [part for part in text.split("\n\n") if part.startswith(begins)]


def values(part: str) -> dict[str, Any]:
    """Return the ``name: value`` pairs that stand in backticks."""
    pairs = re.findall(r"`(\w+): ([^`]+)`", part)
    return {name: yaml.safe_load(value) for name, value in pairs}


def test_each_method_has_a_heading_and_no_heading_is_without_a_method() -> None:
    assert set(SECTIONS) == set(methods())


@pytest.mark.parametrize("method", methods())
def test_a_method_is_told_whole(method: str) -> None:
    _, text = SECTIONS[method]
    for part in ("**Source**", "**Defaults**", "**Measured**"):
        assert paragraphs(text, part), part
    if method not in ("majority", "stratified", "logistic"):
        assert "```text" in text, "it has no equation"
    assert f"`{method}`" in PAGES["index"]


@pytest.mark.parametrize("method", methods())
def test_defaults_on_the_page_are_those_of_the_code(method: str) -> None:
    page, text = SECTIONS[method]
    known = validate(method, {}).model_dump(mode="json")
    own = values(paragraphs(text, "**Defaults**")[0])
    assert set(own) <= set(known)
    for part in paragraphs(PAGES[page], "**Shared defaults**"):
        own = {name: v for name, v in values(part).items() if name in known} | own
    assert own == known


@pytest.mark.parametrize("method", methods())
def test_what_is_searched_is_that_of_the_code(method: str) -> None:
    _, text = SECTIONS[method]
    (part,) = paragraphs(text, "**Searched**")
    pairs = re.findall(r"`([\w.]+): (\[[^`]+\])`", part)
    found = {name: yaml.safe_load(values) for name, values in pairs}
    known = learner_class(method).search
    assert (part == "**Searched**: nothing") == (not known)
    assert list(found) == list(known)
    for name, values in known.items():
        numbers = [float(v) if re.fullmatch(r"\de-\d+", str(v)) else v for v in found[name]]
        assert numbers == list(values)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_shared_defaults_are_somebodys(page: str) -> None:
    own = [m for m, (where, _) in SECTIONS.items() if where == page]
    known = {name for method in own for name in validate(method, {}).model_dump()}
    for part in paragraphs(PAGES[page], "**Shared defaults**"):
        assert set(values(part)) <= known


@pytest.mark.parametrize("page", sorted(PAGES))
def test_figures_stand_on_the_pages_that_are_linked(page: str) -> None:
    text = PAGES[page]
    linked = {ROOT / "docs/methods" / target for target in LINK.findall(text)}
    sources = "\n".join(path.read_text("utf-8") for path in linked)
    for part in paragraphs(text, "**Measured**"):
        for figure in re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", part):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", sources), (figure, part)
