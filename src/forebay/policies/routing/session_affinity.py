"""Where the turns of a conversation went before.

A turn's prompt is all that was said before it, and nobody has that cached but the replica of the
turn before; with tenants' caches kept apart it is also the one part of a prompt of which the router
can be sure that it is there. So the next turn goes there again while that costs little.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

_MOST = 65_536  # conversations remembered, the latest; some 15 MB


class LastTurn(NamedTuple):
    """Where a conversation's last prompt went, and its bytes."""

    replica: str
    size: int


class SessionAffinity:
    """The last turns of the latest conversations, by session or by how they began."""

    def __init__(self) -> None:
        self._last: OrderedDict[int, LastTurn] = OrderedDict()

    def last(self, name: int) -> LastTurn | None:
        """The last turn of this conversation, if this router sent it; 0 names none."""
        return self._last.get(name)

    def note(self, name: int, replica: str, size: int) -> None:
        """A turn of so many bytes goes to a replica."""
        if not name:
            return
        self._last[name] = LastTurn(replica, size)
        self._last.move_to_end(name)
        if len(self._last) > _MOST:
            self._last.popitem(last=False)

    def forget(self, replica: str) -> None:
        """It is gone, or has lost what it had: whoever was there may go anywhere."""
        gone = [name for name, turn in self._last.items() if turn.replica == replica]
        for name in gone:
            del self._last[name]

    def check_integrity(self) -> None:
        """Raise AssertionError when there are too many."""
        assert len(self._last) <= _MOST

    def __repr__(self) -> str:
        return f"<Conversations {len(self._last)}>"
