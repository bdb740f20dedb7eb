"""`GET /forebay/status`, answered by whichever replica HAProxy hands it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from forebay.observability.status import fleet_status
from forebay.serving.http import RequestRefusedError
from forebay.serving.names import INGRESS_DEPLOYMENT

_ANSWER_S = 8.0  # the first question starts Serve's router in this process: seconds on a busy core
_LOG_S = 3.0  # for the log, which starts nothing; without it the rest is told
DECISIONS = 20  # shown of scaling, unless more are asked for
_MOST_DECISIONS = 500  # told at once, of 2,000 that are kept
_FRESH_S = 0.25  # replicas publish twice a second; asking the routers more often tells nothing new

AskRouters = Callable[[], Awaitable[list[dict[str, Any]]]]
AskScaling = Callable[[int], Awaitable[list[dict[str, Any]]]]


class FleetStatus:
    """The fleet's state as JSON, asked of a router at most four times a second."""

    def __init__(
        self,
        service: str,
        ask: AskRouters,
        clock: Callable[[], float],
        ask_scaling: AskScaling | None = None,
    ) -> None:
        """`ask` gets what every replica published last; `clock` counts seconds.

        `ask_scaling` gets so many of the last scaling decisions, where the size may change.
        """
        self._service = service
        self._ask = ask
        self._ask_scaling = ask_scaling
        self._clock = clock
        self._asking = asyncio.Lock()
        self._status: dict[str, Any] | None = None
        self._more: list[dict[str, Any]] = []  # decisions, of the same time
        self._asked_at = float("-inf")

    async def body(self, tenant: str, query: bytes = b"") -> bytes:
        """The answer's body. A tenant, where there are any, is shown no other one's share.

        `decisions=N` in the query asks for more of the last decisions on the fleet's size.

        Raises:
            RequestRefusedError: 503: no router has answered; 400: `decisions` is no number.
        """
        status = await self._current(decisions_asked(query))
        if tenant:
            own = {name: one for name, one in status["tenants"].items() if name == tenant}
            replicas = [{**replica, "tenants": {}} for replica in status["replicas"]]
            status = {**status, "tenants": own, "replicas": replicas}
        return json.dumps(status).encode()

    async def _current(self, decisions: int) -> dict[str, Any]:
        async with self._asking:
            if self._clock() - self._asked_at >= _FRESH_S:
                self._status, self._more = await self._asked(), []
                self._asked_at = self._clock()
            if self._status is None:
                raise RequestRefusedError(503, "The routers do not answer.", "status_unavailable")
            if decisions <= DECISIONS:
                return self._status
            self._more = self._more or await self._decisions(_MOST_DECISIONS)
            return {**self._status, "scaling": self._more[-decisions:] or self._status["scaling"]}

    async def _decisions(self, count: int) -> list[dict[str, Any]]:
        """So many of the last ones; none where the log is away or slow."""
        if self._ask_scaling is None:
            return []
        try:
            return await asyncio.wait_for(self._ask_scaling(count), _LOG_S)
        except Exception:
            return []

    async def _asked(self) -> dict[str, Any] | None:
        try:
            published = await asyncio.wait_for(self._ask(), _ANSWER_S)
        except Exception:  # away, starting or slow: whoever asked can only ask again
            return None
        states = [replica["status"] for replica in published if "status" in replica]
        return fleet_status(self._service, states, await self._decisions(DECISIONS))


def decisions_asked(query: bytes) -> int:
    """How many decisions a query asks for.

    Raises:
        RequestRefusedError: 400: that is no number.
    """
    asked = parse_qs(query.decode("latin-1")).get("decisions", [str(DECISIONS)])[-1]
    if not asked.isdecimal() or not asked.isascii():
        message = f"decisions={asked[:20]} is not a number of decisions."
        raise RequestRefusedError(400, message, "out_of_range", "decisions")
    return min(int(asked[:9]), _MOST_DECISIONS)


def ask_routers(service: str) -> AskRouters:
    """Asks the service's ingress; only within a replica."""
    handle: Any = None

    async def ask() -> list[dict[str, Any]]:
        nonlocal handle
        if handle is None:
            from ray import serve

            # Ray asks the controller for it, and waits: while one starts anew, for seconds in
            # which this loop would serve nobody.
            handle = await asyncio.to_thread(
                serve.get_deployment_handle, INGRESS_DEPLOYMENT, service
            )
        return list(await handle.fleet.remote())

    return ask


class ScalingLogHandle:
    """The service's log of scaling decisions, as a replica or a proxy asks it."""

    def __init__(self, service: str) -> None:
        """It is looked for when it is asked."""
        self._service = service
        self._log: Any = None
        self._finding: asyncio.Task[Any] | None = None

    async def ask(self, method: str, what: Any) -> Any:
        """What a method of `ScalingLog` answers.

        Raises:
            Exception: whatever Ray raises where the log is dead or away; it is looked for again
                the next time.
        """
        if self._log is None:
            self._log = await self._found()
        try:
            return await getattr(self._log, method).remote(what)
        except Exception:
            self._log = None
            raise

    async def _found(self) -> Any:
        """Its handle, looked for in a thread, as above, and by one at a time."""
        if self._finding is None or self._finding.done():
            from forebay.serving.scaling.scaling_log import scaling_log

            looking = asyncio.to_thread(scaling_log, self._service)
            self._finding = asyncio.get_running_loop().create_task(looking)
        return await asyncio.shield(self._finding)


def ask_scaling_log(service: str) -> AskScaling:
    """Asks the service's log of scaling decisions; only within a replica or a proxy."""
    log = ScalingLogHandle(service)

    async def ask(decisions: int) -> list[dict[str, Any]]:
        try:
            return list(await log.ask("last", decisions))
        except Exception:  # dead: the next decision makes a new one
            return []

    return ask
