"""Requests that wait at the gate: by flow, each flow's in the order of arrival.

A flow does not overtake itself, so the first of each flow is all that has to be compared.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from forebay.policies.fairness.overtaking import Flow
from forebay.policies.request import Ticket


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

    def first(self) -> Ticket | None:
        """The held ticket with the smallest tag."""
        return min(map(_first, self._flows.values()), key=_place, default=None)

    def in_turn(self) -> Iterator[Ticket]:
        """The first of each flow by their tags; after one that was let go, the next of its flow."""
        first = self.first()
        if first is None:
            return
        yield first  # which nearly always is as far as anybody looks
        firsts = enumerate(map(_first, self._flows.values()))
        heads = [(*_place(one), number, one) for number, one in firsts if one is not first]
        heapify(heads)
        while heads:
            *_, number, ticket = heappop(heads)
            yield ticket
            left = self._flows.get(ticket.flow)
            if left and (head := _first(left)) is not ticket:
                heappush(heads, (*_place(head), number, head))

    def check_integrity(self) -> None:
        """Raise AssertionError when the count is wrong, or a ticket is not where it belongs."""
        assert self._count == sum(map(len, self._flows.values()))
        for flow, held in self._flows.items():
            assert held, flow
            assert all(t.flow == flow and t.held and not t.closed for t in held), flow


def _first(held: OrderedDict[Ticket, None]) -> Ticket:
    return next(iter(held))


def _place(ticket: Ticket) -> tuple[int, float]:
    return ticket.tag, ticket.due_at
