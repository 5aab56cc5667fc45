"""What somebody's own model is made of is a part of it; what it does wrong is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl.errors import IclError
from icl.learners.registry import make
from icl.models import Model
from icl.models.loading.own_model import load_model


class Sized(Model):
    def __init__(self, size: object = 1) -> None:
        self.size = size


def test_other_arguments_make_another_model() -> None:
    assert Sized().identity == Sized().identity
    assert Sized(2).identity == Sized(2).identity != Sized(3).identity
    assert Sized(size=2).identity != Sized().identity
    assert Sized(lambda: 1).identity != Sized(lambda: 1).identity


def test_a_property_may_say_what_it_can_and_its_name_is_to_be_set(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from icl.models import Model\n"
        "class Can(Model):\n"
        "    can = property(lambda self: frozenset({'score'}))\n"
        "class Named(Model):\n"
        "    name = property(lambda self: 'mine')\n"
        "class Lies(Model):\n"
        "    can = frozenset({'states', 'token_states', 'weights'})\n"
    )
    assert load_model(f"{tmp_path / 'own.py'}:Can").can == {"score"}
    with pytest.raises(IclError, match=r"'name'.*make it a plain attribute"):
        load_model(f"{tmp_path / 'own.py'}:Named")
    with pytest.raises(IclError, match="method 'prototypes' cannot be made: AttributeError"):
        make("prototypes", {}, load_model(f"{tmp_path / 'own.py'}:Lies"))
