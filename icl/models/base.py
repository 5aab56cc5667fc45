"""`Model`: what learners ask of a model, and what a model says that it can do."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic_core import to_json

from icl.errors import IclError, did_you_mean
from icl.models.meter import Meter
from icl.models.tokens import ByteTokenizer, encode, encode_pairs
from icl.tools.closure import code_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Ability = Literal["score", "write", "states", "token_states", "adapt", "tune", "weights"]
# What a model with an ability does, as it stands in a sentence.
_DOES: Mapping[Ability, str] = {
    "score": "scores answers after prompts",
    "write": "writes answers",
    "states": "turns texts into vectors",
    "token_states": "shows the states of its layers",
    "adapt": "takes LoRA factors",
    "tune": "sentence-transformers can tune whole",
    "weights": "has its weights on this machine",
}
PROMPTED: frozenset[Ability] = frozenset({"score", "write"})
DECODER: frozenset[Ability] = PROMPTED | {"states", "token_states", "adapt", "weights"}
ENCODER: frozenset[Ability] = frozenset({"states", "token_states", "adapt", "tune", "weights"})
UNLIMITED = 2**31


class Model:
    """A model, as learners see it. A subclass says what it can do, and has a method for it.

    ======= =========================================================
    can     and so has the method
    ======= =========================================================
    score   ``score(prompts, answers)``
    write   ``write(prompts, max_new_tokens=..., ...)``
    states  ``embed(texts)``
    ======= =========================================================

    The other abilities are those of `Backbone` and its kin, which run transformers' models:
    ``token_states`` (and so any layer and pooling), ``adapt`` (LoRA factors as values), ``tune``
    (sentence-transformers can load and tune it whole), ``weights`` (the model itself is at hand).

    Attributes:
        can: its abilities.
        kind: what it is, as it stands in a message after its name.
        version: all else that decides its numbers beside its code: of its weights, or of what
            answers behind an address. Another version is another model.
        packed: whether it runs packed tries, which `icl.models.scoring.scorer` then makes.
        bidirectional: whether a token sees all of its text, so that texts run padded, not packed.
        chats: whether it lays out chats itself.
        context_length: the most tokens that it takes.
        tokenizer: tells how many tokens a text has; by default one a byte, which errs on the safe
            side.
    """

    can: frozenset[Ability] = frozenset()
    kind: ClassVar[str] = "a model of your own"
    version: str = ""
    packed: bool = False
    bidirectional: ClassVar[bool] = False
    chats: bool = False
    context_length: Any = UNLIMITED
    tokenizer: Any = ByteTokenizer()
    _made_of: tuple[Any, ...] = ()

    def __new__(cls, *given: Any, **named: Any) -> Model:
        """Remember what somebody's own class is made of: other arguments make another model."""
        made = super().__new__(cls)
        if (given or named) and not cls.__module__.startswith("icl."):
            made._made_of = (given, named)
        return made

    @cached_property
    def name(self) -> str:
        """What it is called in messages."""
        return type(self).__name__

    @cached_property
    def meter(self) -> Meter:
        """Running totals of what it was asked to do; what is not counted there costs nothing."""
        return Meter()

    @property
    def device(self) -> torch.device:
        """Where its answers lie."""
        import torch

        return torch.device("cpu")

    @cached_property
    def identity(self) -> str:
        """A hash of all that decides its numbers: class, arguments, code of its module, version.

        Arguments that cannot be written as JSON make it new each time. The code of a notebook or a
        script is nowhere told: a class in one is new each time.
        """
        module = type(self).__module__
        code = secrets.token_hex() if module == "__main__" else code_of(module)
        told = "\0".join([type(self).__name__, code, str(self.version)])
        if self._made_of:
            try:
                told += to_json(self._made_of).decode()
            except Exception:  # what is within may fail in any way
                told += secrets.token_hex()
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def look_again(self) -> None:
        """Forget its identity, where it may have been changed in memory since that was told."""

    def begin(self) -> None:
        """Begin a piece of work that is to cost what it costs alone, whatever ran before it."""
        self.meter.begin()
        self.forget()

    def forget(self) -> None:
        """Drop what is held in memory of earlier work."""

    def share(self, processes: int) -> None:
        """Be told that so many processes of this machine hold the model at once."""

    def sizes(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the context each text takes, each by itself."""
        return [len(row) for row in encode(self.tokenizer, texts)]

    def answer_sizes(self, prompts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Return how many tokens of each answer are scored after each prompt."""
        pairs = encode_pairs(self.tokenizer, prompts, answers)
        return [[len(pair.tokens) - pair.answer_from for pair in row] for row in pairs]

    def score(self, prompts: Sequence[str], answers: Sequence[str]) -> Any:
        """Return ``log p(answer | prompt)``: one row a prompt, one number an answer."""
        raise IclError(lacks(self, {"score"}))

    def write(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[str]]:
        """Go on after each prompt, up to the first stop string: `samples` texts a prompt."""
        raise IclError(lacks(self, {"write"}))

    def embed(self, texts: Sequence[str]) -> Any:
        """Return one vector a text, all of one width."""
        raise IclError(lacks(self, {"states"}))


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is known of a model before it is there; the attributes are those of `Model`."""

    name: str
    kind: str
    can: frozenset[Ability]


def told(abilities: Collection[Ability]) -> str:
    """Say what a model with some abilities does.

    >>> told({"states", "adapt"})
    'turns texts into vectors and takes LoRA factors'
    """
    return " and ".join(text for ability, text in _DOES.items() if ability in abilities)


def lacks(model: Model | Sketch, abilities: Collection[Ability]) -> str:
    """Say in one sentence that a model cannot do what is asked of it."""
    return (
        f"The model {model.name!r}, {model.kind}, is none that {told(abilities)}; take another"
        " model or method."
    )


def numbers(model: Model, found: Any, shape: tuple[int, int]) -> Tensor:
    """Return what a model has answered as float32; a width of -1 may be any.

    Raises:
        IclError: it is no table of numbers, or of another shape; names the model and both shapes.
    """
    import torch

    try:
        table = torch.as_tensor(found, dtype=torch.float32)
        seen = str(tuple(table.shape))
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths, or no numbers
        table, seen = torch.empty(0), "no table of numbers"
    wanted = shape if shape[1] >= 0 else (shape[0], *table.shape[1:2])
    if table.shape != wanted or table.dim() != 2:
        width = "any width" if shape[1] < 0 else shape[1]
        raise IclError(
            f"The model {model.name!r} was to answer with a table of {shape[0]} rows and"
            f" {width} columns, and its shape is {seen}; mend its method."
        )
    return table


def texts_of(model: Model, found: Any, prompts: int, samples: int) -> list[list[str]]:
    """Return what a model has written; raises `IclError` unless it is `samples` texts a prompt."""
    try:
        texts = [[str(text) for text in own] for own in found]
    except TypeError:
        texts = []
    if [len(own) for own in texts] != [samples] * prompts or any(isinstance(o, str) for o in found):
        raise IclError(
            f"The model {model.name!r} was to write {samples} texts after each of {prompts} prompts"
            " and has not; mend its method `write`, which returns a list of texts a prompt."
        )
    return texts


def check_can(name: str, can: Any) -> frozenset[Ability]:
    """Return what a class says that it can do; raises `IclError` where that is no set of words."""
    known = get_args(Ability)
    if isinstance(can, str) or not isinstance(can, Collection):
        raise IclError(f"The model {name!r}: `can` is {can!r}; give a set, such as {{'score'}}.")
    for ability in can:
        if ability not in known:
            hint = did_you_mean(str(ability), known)
            raise IclError(f"The model {name!r}: there is no ability {ability!r}.{hint}")
    return frozenset(can)
