"""The gate: every HTTP request of a replica passes here before vLLM's app sees it.

A costed request is read, priced and admitted or shed. What is admitted runs under a ticket
(`admitted_request.py`) that the engine tap finds through the task's context. Batch may first wait
there, until its ticket is released (`policies/forecast/batch_pacing.py`). A response's first bytes
are held back until there is a token to send (`error_shaper.py`), so a request that misses its
deadline, or an engine that refuses late, is answered with a proper status and not inside a 200.

`before_serve.py` has a costed request decided on in front of Serve's bookkeeping for a request.
Only what is let in goes through that, and comes here a second time (record 0034).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from forebay.observability import catalogue
from forebay.policies.admission import Backoff
from forebay.policies.quotas import Refused
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import BATCH, Admitted, Cost, Decision, Shed
from forebay.policies.routing import OwnPrefixes, Prompt, under_salt
from forebay.serving.engine import EngineHooks, Telemetry
from forebay.serving.gate.admitted_request import AdmittedRequest, AdmittedRequests
from forebay.serving.gate.tenancy import NEVER_S, Caller, Tenancy, key_of, quota_wait_s
from forebay.serving.gate.tokenizer_queue import TokenizerTurns
from forebay.serving.http import (
    ANYBODYS,
    COSTED,
    Access,
    App,
    BodyReader,
    ClientGoneError,
    ErrorShaper,
    InputLimits,
    Message,
    ParsedRequest,
    Receive,
    RequestRefusedError,
    Scope,
    Send,
    access,
    before_shutdown,
    check_tokenized,
    header,
    parse_body,
    prompt_of,
    read_request,
    readable_by_scripts,
    replay,
    retry_headers,
    send_error,
    send_response,
)
from forebay.serving.names import CACHED_HEADER, CLASS_HEADER, STATUS_PATH

# Until a request that a replica failed at may come again: routers have heard by then.
_FAILED_S = 1.0
_LET_IN = "forebay.let_in"  # where a request's scope carries its `AdmittedRequest`

_SHED_TEXT = {
    "ttft_budget": "the first token would take {predicted:.1f} s; {budget:.1f} s is promised",
    "queue_full": "the queue is full",
    "fair_share": "what is left of the replica is owed to others",
    "promise_kept": "serving this now would break a promise made to an earlier request",
    "tpot": "more requests at once would slow every answer beyond what is promised",
    "quota": "what this replica has of the tenant's quota is used up",
    "draining": "this replica is about to stop",
}
_FAILED = "The replica failed to answer; the request may be sent again."
_NEVER_FITS = (
    "Not admitted: it takes more tokens than the tenant's quota has for a minute "
    "(tokens_per_minute), and never fits."
)


class StatusPage(Protocol):
    """What answers `STATUS_PATH`; it asks the fleet, of which a gate knows nothing."""

    async def body(self, tenant: str, query: bytes = b"") -> bytes:
        """The answer's body, as this tenant may see it.

        Raises:
            RequestRefusedError: nobody can tell, or the query is wrong.
        """
        ...


class Gate:
    """ASGI app in front of vLLM's app."""

    def __init__(
        self,
        app: App,
        core: ReplicaCore,
        tap: EngineHooks,
        limits: InputLimits,
        telemetry: Telemetry,
        tenancy: Tenancy,
        clock: Callable[[], float],
        prefixes: OwnPrefixes | None = None,
    ) -> None:
        """Nobody has come yet.

        Args:
            app: vLLM's, or one like it.
            core: decides.
            tap: between `app` and the engine.
            limits: what may be asked for.
            telemetry: counts.
            tenancy: who asks, and what they may have.
            clock: seconds.
            prefixes: what is probably cached here; None where routers say so.
        """
        self.app = app
        self.core = core
        self.admission = core.admission
        self._tap = tap
        self._limits = limits
        self._telemetry = telemetry
        self._tenancy = tenancy
        self._clock = clock
        self._prefixes = prefixes
        self._admitted = AdmittedRequests(app, core, tap, telemetry, tenancy, clock)
        self._backoff = Backoff()
        self._tokenizer = TokenizerTurns()
        self._bodies = BodyReader(limits, self.admission.jittered)
        self.fleet: StatusPage | None = None  # answers STATUS_PATH, when set
        routes: list[Any] = list(getattr(app, "routes", []))
        self._routes = sorted(routes, key=lambda route: getattr(route, "path", "") not in COSTED)

    @property
    def routes(self) -> list[Any]:
        """The wrapped app's routes: Serve looks each request's up for its route name.

        The costed ones come first, since Serve tries them in order.
        """
        return self._routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, before_shutdown(receive, self._tenancy.leave), send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif _LET_IN in scope:
            # Whoever is between has the client's own `send`, and not the one of `at_door`.
            await self._inside(scope, receive, readable_by_scripts(scope, send))
        else:
            await self.at_door(scope, receive, send, self._inside)

    async def at_door(self, scope: Scope, receive: Receive, send: Send, onward: App) -> None:
        """Serve one HTTP request; what is let in goes `onward`, which leads to this gate again.

        Args:
            scope: of the request.
            receive: from the client.
            send: to the client.
            onward: calls this gate with the same scope, in the end.
        """
        path, unread = scope["path"], True
        kind = access(path)
        self._telemetry.posts += scope["method"] == "POST"
        send = readable_by_scripts(scope, send)
        try:
            # A browser's preflight has no key; vLLM's own authentication lets it pass, too.
            keyless = path in ANYBODYS or scope["method"] == "OPTIONS"
            caller = None if keyless else self._tenancy.caller(key_of(scope))
            if path == STATUS_PATH and self.fleet is not None and scope["method"] == "GET":
                name = "" if caller is None else caller.name
                await send_response(
                    send, 200, await self.fleet.body(name, scope.get("query_string", b""))
                )
                return
            if kind is Access.CLOSED:
                raise RequestRefusedError(
                    404, f"No such path: {scope['method']} {path}.", "unknown_path"
                )
            if scope["method"] != "POST" or path in ANYBODYS:
                await self.app(scope, receive, ErrorShaper(send).send)
                return
            unread = False  # or as far as it should be
            body = await self._bodies.read(scope, receive, kind)
            if kind is Access.TOKENIZER:
                check_tokenized(body, self._limits)
                await self._tokenize(scope, replay(body, receive), send)
            elif kind is Access.COSTED:
                assert caller is not None
                let_in = await self._decide_on(scope, body, send, caller)
                if let_in is not None:
                    await self._go(scope, receive, send, let_in, onward)
            else:
                await self.app(scope, replay(body, receive), ErrorShaper(send).send)
        except RequestRefusedError as refusal:
            await send_error(
                send,
                refusal.status,
                refusal.message,
                refusal.code,
                param=refusal.param,
                headers=[*refusal.headers, *(self._bodies.instead_of(scope) if unread else ())],
            )
        except ClientGoneError:
            return

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app in a turn of its own, and send its answer after that: clients are slow."""
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        async with self._tokenizer.turn():
            await self.app(scope, receive, ErrorShaper(keep).send)
        for message in answer:
            await send(message)

    async def _decide_on(
        self, scope: Scope, body: bytes, send: Send, caller: Caller
    ) -> AdmittedRequest | None:
        """A costed request that is let in; None: it is answered."""
        arrived = self._clock()
        turn = await self._tap.inflight_limiter.decision()
        request, prompt = self._read(scope, body, caller)
        class_name = BATCH if caller.batch_only else request.class_name
        self._telemetry.count(catalogue.OFFERED, class_name)
        retries = _retries(scope)
        if retries:
            self._telemetry.count(catalogue.RETRIED, class_name)
        try:
            decision = await self._decided(request, prompt, class_name, caller, arrived, retries)
        except Exception:
            await self._fail(ErrorShaper(send, scope["path"]))
            raise
        if isinstance(decision, Admitted):
            return AdmittedRequest(body, request, decision)
        turn.ended()
        self._telemetry.count(catalogue.SHED, class_name, decision.reason)
        if decision.reason != "draining":
            await self._keep_back()
        await self._refuse(send, decision)
        return None

    async def _go(
        self, scope: Scope, receive: Receive, send: Send, let_in: AdmittedRequest, onward: App
    ) -> None:
        self._telemetry.count(catalogue.ADMITTED, let_in.admitted.ticket.class_name)
        scope[_LET_IN], outcome = let_in, "error"
        try:
            await onward(scope, receive, send)
        except asyncio.CancelledError:
            outcome = "disconnected"
            raise
        except Exception:
            if not let_in.has_come:
                await self._fail(ErrorShaper(send, scope["path"]))
            raise
        finally:
            if not let_in.has_come:
                del scope[_LET_IN]  # whoever is between cannot come with it any more
                self._admitted.finish(let_in.admitted, outcome)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        let_in: AdmittedRequest = scope.pop(_LET_IN)
        let_in.has_come = True
        shaper = ErrorShaper(send, scope["path"])
        try:
            await self._admitted.serve(scope, receive, shaper, let_in)
        except Exception:
            await self._fail(shaper)
            raise

    async def _fail(self, shaper: ErrorShaper) -> None:
        again = retry_headers(self.admission.jittered(_FAILED_S))
        await shaper.fail(503, _FAILED, "replica_failed", again)

    def _read(
        self, scope: Scope, body: bytes, caller: Caller
    ) -> tuple[ParsedRequest, Prompt | None]:
        """What is asked for; its prompt's head, where this replica tells itself what is cached."""
        data, wanted = parse_body(body, self._limits), header(scope, CLASS_HEADER)
        if self._prefixes is None:
            told = header(scope, CACHED_HEADER) or b""
            cached = int(told) if told.isdigit() else 0
            return read_request(scope["path"], data, self._limits, wanted, cached), None
        request = read_request(scope["path"], data, self._limits, wanted)
        prompt = under_salt(prompt_of(data), caller.cache_salt)  # of what may be asked for alone
        cached = self._prefixes.expected(prompt, self.admission.costs.bytes_per_token)
        return replace(request, shape=replace(request.shape, cached_tokens=cached)), prompt

    async def _decided(
        self,
        request: ParsedRequest,
        prompt: Prompt | None,
        class_name: str,
        caller: Caller,
        arrived: float,
        retries: int,
    ) -> Decision:
        """The decision, after all who learn from it.

        Where this fails, or the client leaves meanwhile, there is no reason to count a refusal by:
        the request counts as admitted and ended, so that the counts balance.
        """
        decision: Decision | None = None
        try:
            cost = self.admission.costs.price(request.shape)
            decision = await self._decide(cost, class_name, caller, arrived, retries)
            self._backoff.came(refused=isinstance(decision, Shed))
            if isinstance(decision, Admitted):
                decision.ticket.cache_salt = caller.cache_salt
                if self._prefixes is not None and prompt is not None:
                    self._prefixes.let_in(prompt, self.admission.costs.bytes_per_token)
        except BaseException as fault:
            outcome = "error" if isinstance(fault, Exception) else "disconnected"
            self._telemetry.count(catalogue.ADMITTED, class_name)
            if isinstance(decision, Admitted):
                self._admitted.finish(decision, outcome)
            else:
                self._telemetry.count(catalogue.FINISHED, class_name, outcome)
            raise
        return decision

    async def _decide(
        self, cost: Cost, class_name: str, caller: Caller, arrived: float, retries: int
    ) -> Decision:
        """Within the tenant's quota, and then within what the engine can do in time."""
        charge = await self._tenancy.spend(
            caller, cost.tokens, arrived, cost.most_tokens, cost.least_tokens
        )
        if isinstance(charge, Refused):
            return self.core.over_quota((caller.name, class_name), arrived, quota_wait_s(charge))
        now = self._clock()  # the fleet may have been asked
        try:
            decision = self.core.offer(
                cost, (caller.name, class_name), now, retries=retries, waited_s=now - arrived
            )
        except Exception:
            self._tenancy.turned_away(caller, class_name, charge, now)
            raise
        if isinstance(decision, Shed):
            self._tenancy.turned_away(caller, class_name, charge, now)
        else:
            self._tenancy.let_in(decision.ticket, charge)
            self._tap.waiting.release(decision.released)
        return decision

    async def _keep_back(self) -> None:
        """Let those who were admitted have their turns first, where nearly all are refused."""
        asyncio.get_running_loop().call_soon(self._turned, self._clock())
        delay_s = self._backoff.delay_s
        if delay_s > 0.0:
            await asyncio.sleep(delay_s)

    def _turned(self, before: float) -> None:
        self._backoff.turned(self._clock() - before)

    async def _refuse(self, send: Send, shed: Shed) -> None:
        text = _SHED_TEXT[shed.reason].format(predicted=shed.predicted_s, budget=shed.budget_s)
        message = f"Not admitted: {text}. Retry after {shed.retry_after_s:.1f} s."
        if shed.reason == "quota" and shed.retry_after_s >= NEVER_S:
            message = _NEVER_FITS
        await send_error(
            send,
            429,
            message,
            shed.reason,
            headers=retry_headers(shed.retry_after_s),
        )


def _retries(scope: Scope) -> int:
    """How often this request was sent before, as OpenAI's clients and Envoy say; 0 if not."""
    again = header(scope, b"x-stainless-retry-count") or b""
    attempt = header(scope, b"x-envoy-attempt-count") or b""  # from 1; each proxy counts its own
    before = int(again[:3]) if again.isdigit() else 0
    return max(before, int(attempt[:3]) - 1 if attempt.isdigit() else 0)
