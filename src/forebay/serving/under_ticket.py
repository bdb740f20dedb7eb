"""An admitted request is run under its ticket: in its turn, within its deadline, and accounted.

The deadline is the first token's: an answer that is sent whole may take longer. The time for which
the ticket is held counts, and so does the time from its arrival to its admission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forebay.observability import catalogue
from forebay.policies.admission import AdmissionController
from forebay.policies.decisions import Admitted
from forebay.policies.tickets import Ticket
from forebay.serving.asgi import App, ClientGoneError, Message, Receive, Scope, replay
from forebay.serving.bodies import ParsedRequest
from forebay.serving.error_shaper import ErrorShaper
from forebay.serving.errors import retry_headers
from forebay.serving.holding import WaitingRoom
from forebay.serving.tap import CURRENT_TICKET, EngineTap
from forebay.serving.telemetry import Telemetry
from forebay.serving.tenancy import Tenancy
from forebay.serving.turnstile import Turnstile


class LetIn:
    """A request between its admission and the engine's app."""

    __slots__ = ("admitted", "body", "has_come", "request")

    def __init__(self, body: bytes, request: ParsedRequest, admitted: Admitted) -> None:
        self.body = body
        self.request = request
        self.admitted = admitted
        self.has_come = False  # to the gate again: whoever is between may have refused it


class UnderTicket:
    """Runs vLLM's app for those who were let in."""

    def __init__(
        self,
        app: App,
        admission: AdmissionController,
        tap: EngineTap,
        telemetry: Telemetry,
        tenancy: Tenancy,
        turnstile: Turnstile,
        clock: Callable[[], float],
    ) -> None:
        """Nobody was let in yet; see `Gate` and `turnstile.py` for what these are."""
        self._app = app
        self._admission = admission
        self._tap = tap
        self._telemetry = telemetry
        self._tenancy = tenancy
        self._turnstile = turnstile
        self._clock = clock
        self._room = WaitingRoom()
        self._predicted: dict[Ticket, float] = {}  # seconds, of those without a first token

    def release(self, ticket: Ticket) -> None:
        """A ticket that was held at the gate may go to the engine."""
        self._room.release(ticket)

    async def serve(
        self, scope: Scope, receive: Receive, shaper: ErrorShaper, let_in: LetIn
    ) -> None:
        """Run the app for it, and account how that ended."""
        admitted, request = let_in.admitted, let_in.request
        ticket = admitted.ticket
        outcome, reset = "error", CURRENT_TICKET.set(ticket)
        try:
            if request.shape.prompts == 1 and request.shape.truncated_to is None:
                ticket.prompt_bytes = request.shape.prompt_bytes
            predicted_s = ticket.asked_s + admitted.predicted_s
            self._telemetry.sample(catalogue.PREDICTED, ticket.class_name, predicted_s)
            self._predicted[ticket] = admitted.predicted_s
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
        deadline_s = self._admission.config.classes[ticket.class_name].deadline_s
        client = _Client(receive)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as deadline:

                def expire() -> None:
                    # /v1/responses tells a stream's beginning before there is any token.
                    if ticket.first_token_at is None:
                        # To cancel the app and each of its tasks takes some turns of the event
                        # loop. A token that comes meanwhile would begin an answer that is cut.
                        shaper.withheld = True
                        deadline.reschedule(loop.time())

                timer = loop.call_later(max(deadline_s - ticket.asked_s, 0.0), expire)
                try:
                    if ticket.held:
                        async with self._room.released(ticket, client.receive) as going_on:
                            await self._to_app(scope, body, going_on, shaper, ticket)
                    else:
                        await self._to_app(scope, body, client.receive, shaper, ticket)
                except ClientGoneError:
                    return "disconnected"
                finally:
                    timer.cancel()
        except TimeoutError:
            if not deadline.expired():
                raise
        if shaper.withheld:
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
        await self._turnstile.enter(ticket)
        try:
            await self._app(scope, replay(body, receive), shaper.send)
        finally:
            self._turnstile.arrived(ticket)

    def began(self, ticket: Ticket) -> None:
        """It has its first token; its answer may go on for minutes."""
        predicted_s = self._predicted.pop(ticket, None)
        if predicted_s is None or ticket.first_token_at is None:
            return  # of the warm-up
        waited_s = ticket.first_token_at - ticket.admitted_at
        self._telemetry.answered(ticket.first_token_at)
        self._telemetry.prediction.add(predicted_s, waited_s)
        self._telemetry.sample(catalogue.TTFT, ticket.class_name, ticket.asked_s + waited_s)

    def finish(self, admitted: Admitted, outcome: str) -> None:
        """It is over, however it ended."""
        ticket, now = admitted.ticket, self._clock()
        self._telemetry.count(catalogue.FINISHED, ticket.class_name, outcome)
        self._admission.close(ticket, now)
        self._tenancy.ended(ticket, now)
        if ticket.tenant:
            used = ticket.used_tokens
            self._telemetry.count(catalogue.TENANT_TOKENS, ticket.tenant, amount=used)
        self._tap.forget(ticket)
        self._predicted.pop(ticket, None)
        if ticket.first_token_at is None or len(ticket.sequences) > 1:
            return  # of several, some may have waited for the slots of the others
        later = ticket.sequences[0].produced - 1
        if outcome == "ok" and later > 0 and ticket.last_token_at is not None:
            tpot = (ticket.last_token_at - ticket.first_token_at) / later
            self._telemetry.sample(catalogue.TPOT, ticket.class_name, tpot)


class _Client:
    """A client's `receive`, which notes whether the client has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message
