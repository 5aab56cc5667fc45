"""One table names the packaged models, and all that speak of them read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from icl.cli.doctor import examine
from icl.errors import IclError
from icl.experiments.model_config import ModelConfig
from icl.models.loading.named import faults_told, model_path
from icl.models.packaged.catalogue import PACKAGED, find_packaged, near_packaged

ROOT = Path(__file__).parents[3]


def test_a_name_finds_its_model_and_no_other_does() -> None:
    for name, model in PACKAGED.items():
        assert find_packaged(name) is model
        assert near_packaged(model.name) == f" Did you mean {name!r}?"
        ModelConfig(name=name).check_name()
    assert find_packaged("intfloat/multilingual-e5-small") is None
    assert near_packaged("gpt2") == ""
    with pytest.raises(IclError, match="Did you mean 'multilingual-e5-small'"):
        model_path("packaged:multilingual-e5-smal")
    with pytest.raises(IclError, match="Known: all-minilm-l6-v2, gemma-3-270m, multilingual-e5"):
        model_path("packaged:zzz")


def test_a_model_that_cannot_be_read_is_told_what_else_there_is() -> None:
    with pytest.raises(IclError) as caught, faults_told("nobody/nothing"):
        raise OSError("no such thing")
    assert ", ".join(PACKAGED) in str(caught.value)


def test_the_doctor_looks_at_each() -> None:
    found = {finding.what: finding for finding in examine() if finding.area == "models"}
    for name, model in PACKAGED.items():
        assert found[name].mend == ("" if found[name].verdict == "good" else model.install)


def test_docs_say_what_each_is_for() -> None:
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert re.findall(r"^\| `(packaged:\S+)` \|", page, re.MULTILINE) == list(PACKAGED)
