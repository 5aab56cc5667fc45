"""Prompts in the roles of a chat: the tokenizer's own chat template, BOS once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from icl.errors import IclError
from icl.prompting.channel import cue
from icl.tasks.template import Fields, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = Literal["turns", "message"]
Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A conversation: the user asks, the assistant answers with the label's word.

    Attributes:
        template: input, target and instruction; the instruction is the system's message, or opens
            the first user message where the chat template knows no system role.
        tokenizer: its chat template lays out the messages, see transformers'
            `apply_chat_template`.
        turns: ``turns`` makes each demonstration a question and its answer; ``message`` puts all
            demonstrations and the query into one user message.
        prefix: what every answer of the assistant begins with, e.g. ``Kind:``.
    """

    template: Template
    tokenizer: PreTrainedTokenizerBase
    turns: Turns = "turns"
    prefix: str = ""

    def prompt(self, demonstrations: Sequence[tuple[Fields, str]], fields: Fields) -> str:
        """Return the conversation up to the place where the assistant's answer begins."""
        messages: list[Message] = []
        if self.turns == "turns":
            for shown, word in demonstrations:
                messages.append(_user(self.template.render(shown)))
                answer = self.prefix + self.answer(word)
                messages.append({"role": "assistant", "content": answer})
            messages.append(_user(self.template.render(fields)))
        else:
            bare = Template(self.template.input, self.template.target, self.template.separator)
            messages.append(_user(bare.prompt(demonstrations, fields)))
        return self._lay_out(messages, self.template.instruction.strip())

    def answer(self, word: str) -> str:
        """Return the answer: blanks before it only where the assistant has begun to speak."""
        bare = self.template.answer(word).strip()
        return f" {bare}" if self.prefix and not self.prefix[-1].isspace() else bare

    def domain(self) -> str:
        """Return a conversation whose question is the template's cue alone."""
        return self._lay_out([_user(cue(self.template))], "")

    def _lay_out(self, messages: list[Message], instruction: str) -> str:
        if instruction:
            system = [{"role": "system", "content": instruction}, *messages]
            text = _applied(self.tokenizer, system)
            if text is None or instruction not in text:  # refused, or dropped without a word
                opened = f"{instruction}\n\n{messages[0]['content']}"
                text = _applied(self.tokenizer, [_user(opened), *messages[1:]])
        else:
            text = _applied(self.tokenizer, messages)
        if text is None:
            raise IclError(
                "The tokenizer's chat template refuses a conversation of user and assistant "
                "turns; set `chat: message`, or `chat: none`."
            )
        return _without_bos(self.tokenizer, text) + self.prefix


def chat_format(
    tokenizer: PreTrainedTokenizerBase, template: Template, turns: Turns, prefix: str
) -> ChatFormat:
    """Make a chat format; raises `IclError` for a tokenizer that has no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise IclError(
            "The model's tokenizer has no chat template, so it is no instruct model; "
            "set `chat: none`."
        )
    return ChatFormat(template, tokenizer, turns, prefix)


def _user(content: str) -> Message:
    return {"role": "user", "content": content.strip()}


def _applied(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str | None:
    """Return the conversation as text, ready for the assistant; None where it is refused."""
    from jinja2.exceptions import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )
    except (TemplateError, OverflowError, MemoryError):
        return None


def _without_bos(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Take the chat template's BOS away where the tokenizer adds one of its own."""
    bos = tokenizer.bos_token
    if not bos or not text.startswith(str(bos)):
        return text
    alone = tokenizer("", add_special_tokens=True)["input_ids"]
    adds = len(alone) > 0 and alone[0] == tokenizer.bos_token_id
    return text.removeprefix(str(bos)) if adds else text
