"""Prompts in the roles of a chat: the tokenizer's own chat template, BOS once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from icl.errors import IclError, did_you_mean
from icl.prompting.channel import cue
from icl.prompting.chat_sandbox import RefusedError, render_chat, variables
from icl.prompting.format import Answered, PlainFormat
from icl.tasks.template import Fields, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Literal["turns", "message"]
Message = dict[str, str]
GIVEN = frozenset({"messages", "add_generation_prompt", "tools", "documents"})
_MARKS = ("icl first", "icl second", "icl third")  # contents by which a layout is probed


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A conversation: the user asks, the assistant answers with the label's word.

    Attributes:
        template: input, target and instruction; the instruction is the system's message, or opens
            the first user message where the chat template knows no system role.
        tokenizer: its chat template lays out the messages, as transformers' `apply_chat_template`
            does, within the bounds of `icl.prompting.chat_sandbox`.
        turns: ``turns`` makes each demonstration a question and its answer; ``message`` puts all
            demonstrations and the query into one user message.
        prefix: what every answer of the assistant begins with, e.g. ``Kind:``.
        options: what the chat template is told besides, e.g. ``enable_thinking: false``.
    """

    template: Template
    tokenizer: PreTrainedTokenizerBase
    turns: Turns = "turns"
    prefix: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def prompt(self, demonstrations: Sequence[tuple[Fields, str]], fields: Fields) -> str:
        """Return the conversation up to the place where the assistant's answer begins."""
        return self.written([(f, self.template.answer(w)) for f, w in demonstrations], fields)

    def written(self, answered: Sequence[Answered], fields: Fields, opening: str = "") -> str:
        """Return the conversation up to where the assistant goes on; see `PlainFormat.written`."""
        messages: list[Message] = []
        if self.turns == "turns":
            for shown, answer in answered:
                messages.append(_user(self.template.render(shown)))
                said = self.prefix + self._led(answer)
                messages.append({"role": "assistant", "content": said})
            messages.append(_user(self.template.render(fields)))
        else:
            bare = Template(self.template.input, self.template.target, self.template.separator)
            messages.append(_user(PlainFormat(bare).written(answered, fields)))
        begun = self._lay_out(messages, self.template.instruction.strip())
        return begun + (self._led(opening) if opening else "")

    def answer(self, word: str) -> str:
        """Return the answer: blanks before it only where the assistant has begun to speak."""
        return self._led(self.template.answer(word))

    def domain(self) -> str:
        """Return a conversation whose question is the template's cue alone."""
        return self._lay_out([_user(cue(self.template))], "")

    @property
    def ends(self) -> tuple[str, ...]:
        """What the chat template puts behind an answer of the assistant, or before the next turn.

        None where it lays out no turn of the assistant's.
        """
        first, second, third = _MARKS
        asked: list[Message] = [_user(first), {"role": "assistant", "content": second}]
        for messages, begun in ((asked, False), ([*asked, _user(third)], True)):
            try:
                text = self._applied(messages, begun=begun)
            except RefusedError:
                return ()
            closing = text.partition(second)[2].partition(third)[0].strip()
            if closing:
                known = sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True)
                # a token of its own is seen before the rest is written, and is not spelt out
                return (next((t for t in known if closing.startswith(t)), closing),)
        return ()

    def check(self) -> None:
        """Raise `IclError` where the chat template does not show what the roles say."""
        first, second, third = _MARKS
        asked = [_user(first)]
        if self.turns == "turns":
            asked += [{"role": "assistant", "content": second}, _user(third)]
        try:
            text = self._applied(asked)
        except RefusedError:
            return  # which is told where a conversation is to be laid out
        for message in asked:
            _, found, text = text.partition(message["content"])
            if not found:
                raise IclError(
                    f"The tokenizer's chat template drops what the {message['role']} says, so that"
                    " the model would not see it; mend the template, or set `chat: none`."
                )

    def _led(self, answer: str) -> str:
        bare = answer.strip()
        return f" {bare}" if self.prefix and not self.prefix[-1].isspace() else bare

    def _lay_out(self, messages: list[Message], instruction: str) -> str:
        tries = [messages]
        if instruction:
            opened = _user(f"{instruction}\n\n{messages[0]['content']}")
            told = {"role": "system", "content": instruction}
            tries = [[told, *messages], [opened, *messages[1:]]]
        for said in tries:
            try:
                text = self._applied(said)
            except RefusedError as error:
                refusal = error
                continue
            if said is tries[-1] or instruction in text:  # else it is dropped without a word
                return _without_bos(self.tokenizer, text) + self.prefix
        mend = "set `chat: message`, or `chat: none`"
        raise IclError(
            "The tokenizer's chat template refuses a conversation of user and assistant turns"
            f" ({refusal}); {mend if len(messages) > 1 else 'set `chat: none`'}."
        )

    def _applied(self, messages: list[Message], *, begun: bool = True) -> str:
        values = {**self.tokenizer.special_tokens_map, **self.options}
        return render_chat(_source(self.tokenizer), messages, values, begun=begun)


def chat_format(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    turns: Turns,
    prefix: str,
    options: Mapping[str, Any] | None = None,
) -> ChatFormat:
    """Make a chat format.

    Raises:
        IclError: the tokenizer has no chat template, or one that shows not what is said, or does
            not know an option.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise IclError(
            "The model's tokenizer has no chat template, so it is no instruct model; "
            "set `chat: none`."
        )
    known = variables(_source(tokenizer)) - GIVEN - set(tokenizer.special_tokens_map)
    for name in options or {}:
        if name not in known:
            hint = did_you_mean(name, known) if known else " It knows none."
            raise IclError(
                f"The tokenizer's chat template knows no {name!r}, which `chat_template_kwargs`"
                f" sets.{hint}"
            )
    made = ChatFormat(template, tokenizer, turns, prefix, dict(options or {}))
    made.check()
    return made


def _source(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the chat template; the one called ``default`` where there are several."""
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise IclError(
            "The tokenizer has several chat templates and none called 'default'; set `chat: none`."
        ) from error


def _user(content: str) -> Message:
    return {"role": "user", "content": content.strip()}


def _without_bos(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Take the chat template's BOS away where the tokenizer adds one of its own."""
    bos = tokenizer.bos_token
    if not bos or not text.startswith(str(bos)):
        return text
    alone = tokenizer("", add_special_tokens=True)["input_ids"]
    adds = len(alone) > 0 and alone[0] == tokenizer.bos_token_id
    return text.removeprefix(str(bos)) if adds else text
