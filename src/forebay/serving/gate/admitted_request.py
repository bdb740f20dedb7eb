"""An admitted request is run under its ticket: in its turn, within its deadline, and accounted.

The deadline is the first token's: an answer that is sent whole may take longer. The time for which
the ticket is held counts, and so does the time from its arrival to its admission.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from forebay.policies.replica import ReplicaCore
from forebay.policies.request import Admitted, Ticket
from forebay.serving.engine import CURRENT_TICKET, EngineHooks, Telemetry
from forebay.serving.gate.tenancy import Tenancy
from forebay.serving.http import (
    App,
    ClientGoneError,
    ErrorShaper,
    Message,
    ParsedRequest,
    Receive,
    Scope,
    replay,
    retry_headers,
)


class AdmittedRequest:
    """A request between its admission and the engine's app."""

    __slots__ = ("admitted", "body", "has_come", "request")

    def __init__(self, body: bytes, request: ParsedRequest, admitted: Admitted) -> None:
        self.body = body
        self.request = request
        self.admitted = admitted
        self.has_come = False  # to the gate again: whoever is between may have refused it


class AdmittedRequests:
    """Runs vLLM's app for those who were let in."""

    def __init__(
        self,
        app: App,
        core: ReplicaCore,
        tap: EngineHooks,
        telemetry: Telemetry,
        tenancy: Tenancy,
        clock: Callable[[], float],
    ) -> None:
        """Nobody was let in yet; see `Gate` for what these are."""
        self._app = app
        self._core = core
        self._tap = tap
        self._telemetry = telemetry
        self._tenancy = tenancy
        self._clock = clock
        self._deadlines = Deadlines(core, clock)

    async def serve(
        self, scope: Scope, receive: Receive, shaper: ErrorShaper, let_in: AdmittedRequest
    ) -> None:
        """Run the app for it, and account how that ended."""
        admitted, request = let_in.admitted, let_in.request
        ticket = admitted.ticket
        outcome, reset = "error", CURRENT_TICKET.set(ticket)
        try:
            if request.shape.prompts == 1 and request.shape.truncated_to is None:
                ticket.prompt_bytes = request.shape.prompt_bytes
            self._telemetry.admitted(ticket, admitted.predicted_s)
            outcome = await self._run(scope, let_in.body, receive, shaper, ticket)
        except asyncio.CancelledError:
            outcome = "disconnected"
            raise
        finally:
            CURRENT_TICKET.reset(reset)
            self.finish(admitted, outcome)

    async def _run(
        self, scope: Scope, body: bytes, receive: Receive, shaper: ErrorShaper, ticket: Ticket
    ) -> str:
        """Run vLLM's app under the class's deadline; returns how it ended."""
        client = _Client(receive)
        try:
            async with asyncio.timeout(None) as deadline:

                def expire() -> None:
                    # To cancel the app and each of its tasks takes some turns of the event loop.
                    # A token that comes meanwhile would begin an answer that is cut.
                    shaper.withheld = True
                    deadline.reschedule(asyncio.get_running_loop().time())

                self._deadlines.watch(ticket, expire)
                try:
                    if ticket.held:
                        async with self._tap.waiting.released(ticket, client.receive) as going_on:
                            await self._to_app(scope, body, going_on, shaper, ticket)
                    else:
                        await self._to_app(scope, body, client.receive, shaper, ticket)
                except ClientGoneError:
                    return "disconnected"
                finally:
                    self._deadlines.forget(ticket)
        except TimeoutError:
            if not deadline.expired():
                raise
        if shaper.withheld:
            deadline_s = self._core.admission.config.classes[ticket.class_name].deadline_s
            message = f"No first token within {deadline_s:.1f} s; the request was aborted."
            await shaper.fail(503, message, "deadline_exceeded", retry_headers(deadline_s / 2))
            return "deadline"
        if shaper.status is not None and shaper.status >= 400:
            return "rejected" if shaper.status < 500 else "error"
        if shaper.failed:
            return "error"
        if not shaper.started or any(s.state != "ended" for s in ticket.sequences):
            # vLLM's handlers return quietly when the client is gone, and abort in the engine.
            return "disconnected" if client.gone else "error"
        return "ok"

    async def _to_app(
        self, scope: Scope, body: bytes, receive: Receive, shaper: ErrorShaper, ticket: Ticket
    ) -> None:
        await self._tap.inflight_limiter.enter(ticket)
        try:
            await self._app(scope, replay(body, receive), shaper.send)
        finally:
            self._tap.inflight_limiter.arrived(ticket)

    def finish(self, admitted: Admitted, outcome: str) -> None:
        """It is over, however it ended."""
        ticket, now = admitted.ticket, self._clock()
        self._deadlines.forget(ticket)
        released = self._core.close(ticket, now)
        self._tenancy.ended(ticket, now)
        self._telemetry.finished(ticket, outcome)
        self._tap.forget(ticket)
        self._tap.waiting.release(released)


class Deadlines:
    """One timer for the next deadline of the core."""

    def __init__(self, core: ReplicaCore, clock: Callable[[], float]) -> None:
        """Watch nobody; `clock` is the core's, in seconds."""
        self._core = core
        self._clock = clock
        self._expire: dict[Ticket, Callable[[], None]] = {}
        self._missed: set[Ticket] = set()  # before they were watched
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def watch(self, ticket: Ticket, expire: Callable[[], None]) -> None:
        """Call `expire` once its deadline has passed without a first token."""
        if ticket in self._missed:
            self._missed.remove(ticket)
            expire()
            return
        self._expire[ticket] = expire
        self._set()

    def forget(self, ticket: Ticket) -> None:
        """It is over."""
        self._expire.pop(ticket, None)
        self._missed.discard(ticket)

    def _set(self) -> None:
        due_at = self._core.next_due
        if due_at < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            wait_s = max(due_at - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)
            self._rings_at = due_at

    def _ring(self) -> None:
        # The loop's timer may be a hair early by the core's clock.
        now = max(self._clock(), self._rings_at)
        self._timer, self._rings_at = None, math.inf
        for ticket in self._core.due(now):
            expire = self._expire.pop(ticket, None)
            if expire is None:
                self._missed.add(ticket)
            else:
                expire()
        self._set()


class _Client:
    """A client's `receive`, which notes whether the client has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message
