"""Requests that wait at the gate: by flow, each flow's in the order of arrival.

A flow does not overtake itself, so the first of each flow is all that has to be compared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container

from forebay.policies.ledger import Ticket
from forebay.policies.overtaking import Flow


class HeldQueue:
    """Held tickets; adding, removing and finding the first take no search through them."""

    def __init__(self) -> None:
        """Nothing is held."""
        self._flows: dict[Flow, OrderedDict[Ticket, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket in self._flows.get(ticket.flow, ())

    def add(self, ticket: Ticket) -> None:
        """Hold a ticket, the last of its flow."""
        self._flows.setdefault(ticket.flow, OrderedDict())[ticket] = None
        self._count += 1

    def remove(self, ticket: Ticket) -> None:
        """Let a ticket go.

        Raises:
            KeyError: it is not held.
        """
        flow = self._flows[ticket.flow]
        del flow[ticket]
        self._count -= 1
        if not flow:
            del self._flows[ticket.flow]

    def first(self, but: Container[Flow] = ()) -> Ticket | None:
        """The held ticket with the smallest tag, of the flows that are not left out."""
        heads = [next(iter(held)) for flow, held in self._flows.items() if flow not in but]
        return min(heads, key=lambda ticket: (ticket.tag, ticket.due_at), default=None)

    def check_integrity(self) -> None:
        """Raise AssertionError when the count is wrong, or a ticket is not where it belongs."""
        assert self._count == sum(map(len, self._flows.values()))
        for flow, held in self._flows.items():
            assert held, flow
            assert all(t.flow == flow and t.held and not t.closed for t in held), flow

    def __repr__(self) -> str:
        return f"<HeldQueue {self._count} of {len(self._flows)} flows>"
