"""The parameters of prompting methods: one flat set of plain names, checked for what fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from icl.errors import IclError
from icl.learners.base import Params
from icl.prompting.calibration import Calibration
from icl.prompting.chat import ChatFormat, chat_format
from icl.prompting.choice import BY_QUERY, Choice
from icl.prompting.consistency import ChainOfThought, Lines
from icl.prompting.format import PlainFormat
from icl.prompting.order import BY_ENTROPY, Order
from icl.prompting.scoring import Normalise, Scoring
from icl.prompting.templates import instructed, named
from icl.prompting.verbalisers import Words, reworded
from icl.tasks.task import Example, Labels, keyed_by_label
from icl.tasks.template import Template, template_fields
from icl.tasks.words import clash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What compares labels, and so says nothing where answers are written: parameter -> what leaves it.
_OF_LABELS = {
    "words": "task", "scoring": "direct", "normalise": "sum", "calibration": "none",
}  # fmt: skip


class ZeroShotParams(Params):
    """How a task is put before a model, and how its answers are scored; see docs/in-context.md.

    Attributes:
        template: a named template, see `icl.prompting.templates.TEMPLATES`.
        input, target, separator, instruction: replace parts of the template; the instruction may
            show ``{{ labels }}``.
        words: the label words: ``task``, ``name``, ``lower``, ``upper``, ``title``, ``letter``,
            ``number``, or a word by label name.
        scoring: ``direct``, ``channel`` or ``pmi``.
        domain_prompt: PMI's prompt without an input; by default the template's cue.
        normalise: divide scores by the answer's length in tokens, characters or bytes.
        calibration: ``contextual``, or ``batch``, which is transductive.
        chat: ``turns`` or ``message`` lays prompts out in the model's chat template.
        assistant_prefix: what the assistant's answer begins with, in a chat.
        chat_template_kwargs: what the chat template is told besides, e.g. ``enable_thinking``.
        templates: average probabilities over these named templates as well; written answers vote.
        max_new_tokens, stop: how far generation goes; it also ends where a next example would
            begin, or in a chat with the assistant's turn.
        answer_lines: whether a written answer is its first line, or ``all`` of it.
        samples, temperature: sampled answers that are voted on (self-consistency); one sample at
            temperature 0 is greedy.
        answer_marker, rationale, thought: chain of thought: what stands before the answer, the
            field that holds a demonstration's rationale, and what every rationale begins with.
        seed: of all that is drawn.
    """

    template: str = "task"
    input: str | None = None
    target: str | None = None
    separator: str | None = None
    instruction: str | None = None
    words: Words | dict[str, str] = "task"
    scoring: Scoring = "direct"
    domain_prompt: str | None = None
    normalise: Normalise = "sum"
    calibration: Calibration = "none"
    chat: Literal["none", "turns", "message"] = "none"
    assistant_prefix: str = ""
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    templates: tuple[str, ...] = ()
    max_new_tokens: int = Field(default=64, ge=1)
    stop: tuple[str, ...] = ()
    answer_lines: Lines = "one"
    samples: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    answer_marker: str = ""
    rationale: str | None = None
    thought: str = ""
    seed: int = 0

    @field_validator("template", "templates")
    @classmethod
    def _templates_are_known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            if name == "best" and isinstance(value, str):
                continue
            try:
                named(name, Template(input="{{ text }}"))
            except IclError as error:
                raise ValueError(str(error).rstrip(".")) from error
        return value

    @field_validator("words")
    @classmethod
    def _words_differ(cls, words: Words | dict[str, str]) -> Words | dict[str, str]:
        if not isinstance(words, dict):
            return words
        same = clash(words)
        if same is not None:
            raise ValueError(f"{same}; give each its own")
        return keyed_by_label(words.items())

    @field_validator("input", "target")
    @classmethod
    def _parts_are_templates(cls, source: str | None) -> str | None:
        try:
            if source is not None:
                template_fields(source)
        except IclError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return source

    @field_validator("target")
    @classmethod
    def _target_shows_the_label(cls, target: str | None) -> str | None:
        if target is not None and template_fields(target) != {"label"}:
            raise ValueError("a target shows {{ label }} and nothing else")
        return target

    @field_validator("stop")
    @classmethod
    def _stops_are_not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("an empty text stops every answer before it begins; remove it")
        return stop

    @model_validator(mode="after")
    def _parts_fit(self) -> ZeroShotParams:
        if self.scoring == "channel" and self.chat != "none":
            raise ValueError("`scoring: channel` has no chat form; set `chat: none`")
        if self.domain_prompt is not None and self.scoring != "pmi":
            raise ValueError("`domain_prompt` is for `scoring: pmi`")
        if self.assistant_prefix and self.chat == "none":
            raise ValueError("`assistant_prefix` is for a chat; set `chat: turns`")
        if self.chat_template_kwargs and self.chat == "none":
            raise ValueError("`chat_template_kwargs` are for a chat; set `chat: turns`")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("`samples` above 1 at `temperature: 0` are all the same; raise it")
        if self.calibration == "domain" and not isinstance(self, InContextParams):
            raise ValueError("`calibration: domain` needs the words of a support set")
        if self.template == "best" and not self.templates:
            raise ValueError("`template: best` chooses among `templates`; name two or more there")
        if self.template == "best" and not isinstance(self, InContextParams):
            raise ValueError("`template: best` is chosen on the support set")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The templates that are asked."""
        named_once = dict.fromkeys((self.template, *self.templates))
        return tuple(name for name in named_once if name != "best")

    def worded(self, labels: Labels, name: str) -> Labels:
        """Return a task's labels with these words, and a named template with these parts.

        Raises:
            IclError: two labels look the same so, or a part is no template.
        """
        parts = {
            part: value
            for part in ("input", "target", "separator", "instruction")
            if (value := getattr(self, part)) is not None
        }
        own = reworded(labels, self.words)
        template = replace(named(name, labels.template), **parts)
        return replace(own, template=instructed(template, own.words))

    def format(
        self, tokenizer: PreTrainedTokenizerBase, template: Template
    ) -> PlainFormat | ChatFormat:
        """Return how prompts are written; raises `IclError` as `chat_format` does."""
        if self.chat == "none":
            return PlainFormat(template)
        return chat_format(
            tokenizer, template, self.chat, self.assistant_prefix, self.chat_template_kwargs
        )

    def chain(self, tokenizer: PreTrainedTokenizerBase, template: Template) -> ChainOfThought:
        """Return how answers are asked for and read where they are written."""
        return ChainOfThought(
            self.format(tokenizer, template),
            self.answer_marker,
            self.rationale,
            self.thought,
            self.answer_lines,
        )

    def check_task(self, labels: Labels, shown: Sequence[Example]) -> None:
        """Raise `IclError` where labels look alike, or written answers are asked for as labels."""
        for name in self.names:
            self.worded(labels, name)
        if not labels.names:
            self._check_written(shown)

    def _check_written(self, shown: Sequence[Example]) -> None:
        for name, value in self._about_labels():
            raise IclError(
                f"`{name}: {value}` is about labels, and where answers are written there are none;"
                " drop it, or leave the generation tasks or this learner out."
            )
        for example in shown:
            if self.rationale is not None and self.rationale not in example.fields:
                raise IclError(
                    f"`rationale: {self.rationale}` names no field of the examples, which have"
                    f" {', '.join(example.fields)}; name one, or drop it."
                )

    def _about_labels(self) -> list[tuple[str, object]]:
        """Return the parameters, with their values, that mean nothing without labels."""
        found = [(n, getattr(self, n)) for n, off in _OF_LABELS.items() if getattr(self, n) != off]
        found += [("template", name) for name in self.names if name == "options"]
        found += [("template", "best")] * (self.template == "best")
        if self.instruction is not None and "labels" in template_fields(self.instruction):
            found.append(("instruction", repr(self.instruction)))
        return found


class InContextParams(ZeroShotParams):
    """Prompting with demonstrations.

    Attributes:
        pool: demonstrations are chosen from the support set and the episode's pool together.
        choice: ``all``, ``random``, ``balanced``; for each query ``knn``, ``bm25``, ``mmr``,
            ``dpp``.
        demonstrations: how many are chosen.
        diversity: of ``mmr`` and ``dpp``: 0 for nearness alone, 1 for diversity alone.
        order: ``given``, ``random`` by seed, ``similarity`` (nearest last), ``global-entropy``,
            ``local-entropy``.
        candidates: orders that the entropies choose from.
        probes: what the entropies are measured on: ``written`` by the model, or random ``words``
            of the support set.
        probe_count: how many probes.
        ensemble_orders: average probabilities over so many random orders; written answers vote.
        calibration: ``domain`` as well: random words of the support set.
        template: ``best`` as well: of `templates`, the one that foretells each support
            label best from all the others.
    """

    pool: bool = False
    choice: Choice = "all"
    demonstrations: int | None = Field(default=None, ge=1)
    diversity: float = Field(default=0.5, ge=0, le=1)
    order: Order = "given"
    candidates: int = Field(default=24, ge=2)
    probes: Literal["written", "words"] = "written"
    probe_count: int = Field(default=24, ge=1)
    ensemble_orders: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _demonstrations_fit(self) -> InContextParams:
        if (self.choice == "all") != (self.demonstrations is None):
            raise ValueError(
                f"`choice: {self.choice}` needs `demonstrations`, their number"
                if self.demonstrations is None
                else "`demonstrations` needs a `choice`: random, balanced, knn, bm25, mmr or dpp"
            )
        if self.choice == "dpp" and self.diversity == 0:
            raise ValueError("`diversity` of `choice: dpp` must be above 0; or set `choice: knn`")
        if self.order in BY_ENTROPY and self.choice in BY_QUERY:
            raise ValueError(
                f"`order: {self.order}` needs the same demonstrations for all queries; "
                "set `choice` to all, random or balanced"
            )
        if self.order in BY_ENTROPY and self.scoring == "channel":
            raise ValueError(f"`order: {self.order}` is defined for direct scoring")
        if self.ensemble_orders > 1 and self.order not in {"given", "random"}:
            raise ValueError(f"`ensemble_orders` are random orders; drop `order: {self.order}`")
        return self

    def _about_labels(self) -> list[tuple[str, object]]:
        found = super()._about_labels()
        found += [("choice", self.choice)] * (self.choice == "balanced")
        return found + [("order", self.order)] * (self.order in BY_ENTROPY)
