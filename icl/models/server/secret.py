"""The server's key: read from the environment, sent to the server, and told to nobody else."""

from __future__ import annotations

import os
from typing import Any

from icl.errors import IclError

_MASK = "[key]"
_LONG = 16  # so long a key stands in no text by chance


class Secret:
    """A key that never shows in a representation, and that is cut out of texts that hold it."""

    __slots__ = ("_value", "variable")

    def __init__(self, variable: str | None) -> None:
        """Read the key from an environment variable; None means that there is no key.

        Raises:
            IclError: the variable is not set, or holds what no header can carry. The message names
                the variable and not its value.
        """
        self.variable = variable
        self._value = os.environ.get(variable, "").strip() if variable else ""
        if variable and not self._value:
            raise IclError(
                f"The environment variable {variable!r}, named by `key_env`, is not set; put the"
                " server's key into it."
            )
        if not all("!" <= character <= "~" for character in self._value):
            raise IclError(
                f"The environment variable {variable!r} holds blanks or other characters that no"
                " key has; set it again."
            )

    def __repr__(self) -> str:
        return f"Secret({self.variable!r})"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that carry the key."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def redact(self, message: str) -> str:
        """Return a message for people without the key."""
        return message.replace(self._value, _MASK) if self._value else message

    def scrub(self, reply: Any) -> Any:
        """Return a reply's JSON value without the key in any text of it.

        A key too short to be secret (``EMPTY``) may be a word, and stays.
        """
        if len(self._value) < _LONG:
            return reply
        if isinstance(reply, str):
            return self.redact(reply)
        if isinstance(reply, list):
            return [self.scrub(item) for item in reply]
        if isinstance(reply, dict):
            return {self.scrub(name): self.scrub(value) for name, value in reply.items()}
        return reply
