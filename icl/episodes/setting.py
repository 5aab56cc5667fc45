"""`Setting`: how the support and the query set of an episode relate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """How the support and the query set of an episode relate.

    Attributes:
        name: the setting's name in tables, e.g. ``within`` or ``cross-lingual``.
        support_language: the language of every support set; None: that of the query set.
        other_domain: queries come from one domain (`Example.domain`), drawn anew for each
            episode, and the support from the others.
    """

    name: str
    support_language: str | None = None
    other_domain: bool = False


WITHIN = Setting("within")
