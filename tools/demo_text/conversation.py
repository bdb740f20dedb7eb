"""The unit of training text, and which of it is held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

Turn = tuple[str, str]
"""(role, text)"""


def in_held_out(group: str) -> bool:
    """One group in fifty, chosen by a hash so that it does not depend on the order."""
    return hashlib.sha256(group.encode()).digest()[0] < 5


@dataclass(frozen=True)
class Conversation:
    """One training document."""

    turns: tuple[Turn, ...]
    group: str | None = None
    """What shares a split: a word sense, a section of the manual. None: always trained on."""

    @property
    def held_out(self) -> bool:
        """True for what the model must not see before it is measured."""
        return self.group is not None and in_held_out(self.group)
