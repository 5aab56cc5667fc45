"""`Setting`: how the support and the query set of an episode relate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """How the support and the query set of an episode relate.

    Attributes:
        name: the setting's name in tables, e.g. ``within`` or ``cross-lingual``.
        support_language: the language of every support set; None: that of the query set.
        domain_field: a field of the examples that names their domain. Queries then come from one
            domain, drawn anew for each episode, and the support from the others. None: domains
            play no part.
    """

    name: str
    support_language: str | None = None
    domain_field: str | None = None


WITHIN = Setting("within")
