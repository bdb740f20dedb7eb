"""`GET /forebay/status`, answered by whichever replica HAProxy hands it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from forebay.observability.status import fleet_status
from forebay.serving.errors import RequestRefusedError

STATUS_PATH = "/forebay/status"
_ANSWER_S = 8.0  # the first question starts Serve's router in this process: seconds on a busy core
DECISIONS = 20  # shown of scaling, unless more are asked for
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
        self._asked_at = float("-inf")

    async def body(self, tenant: str, query: bytes = b"") -> bytes:
        """The answer's body. A tenant, where there are any, is shown no other one's share.

        `decisions=N` in the query asks for more of the last decisions on the fleet's size.

        Raises:
            RequestRefusedError: 503: no router has answered; 400: `decisions` is no number.
        """
        decisions = _decisions_asked(query)
        status = await self._current()
        if decisions > DECISIONS:
            try:
                status = {**status, "scaling": await self._decisions(decisions)}
            except TimeoutError:
                raise _silent() from None
        if tenant:
            own = {name: one for name, one in status["tenants"].items() if name == tenant}
            replicas = [{**replica, "tenants": {}} for replica in status["replicas"]]
            status = {**status, "tenants": own, "replicas": replicas}
        return json.dumps(status).encode()

    async def _current(self) -> dict[str, Any]:
        async with self._asking:
            if self._clock() - self._asked_at >= _FRESH_S:
                self._status = await self._asked()
                self._asked_at = self._clock()
        if self._status is None:
            raise _silent()
        return self._status

    async def _decisions(self, count: int) -> list[dict[str, Any]]:
        if self._ask_scaling is None:
            return []
        return await asyncio.wait_for(self._ask_scaling(count), _ANSWER_S)

    async def _asked(self) -> dict[str, Any] | None:
        try:
            published = await asyncio.wait_for(self._ask(), _ANSWER_S)
            scaling = await self._decisions(DECISIONS)
        except Exception:  # away, starting or slow: whoever asked can only ask again
            return None
        states = [replica["status"] for replica in published if "status" in replica]
        return fleet_status(self._service, states, scaling)


def _silent() -> RequestRefusedError:
    return RequestRefusedError(503, "The routers do not answer.", "status_unavailable")


def _decisions_asked(query: bytes) -> int:
    """How many decisions a query asks for."""
    asked = parse_qs(query.decode("latin-1")).get("decisions", [str(DECISIONS)])[-1]
    if not asked.isdecimal() or not asked.isascii():
        message = f"decisions={asked[:20]} is not a number of decisions."
        raise RequestRefusedError(400, message, "out_of_range", "decisions")
    return int(asked[:9])


def ask_routers(service: str) -> AskRouters:
    """Asks the service's ingress; only within a replica."""
    handle: Any = None

    async def ask() -> list[dict[str, Any]]:
        nonlocal handle
        if handle is None:
            from ray import serve

            from forebay.serving.app import INGRESS_DEPLOYMENT

            # Ray asks the controller for it, and waits: while one starts anew, for seconds in
            # which this loop would serve nobody.
            handle = await asyncio.to_thread(
                serve.get_deployment_handle, INGRESS_DEPLOYMENT, service
            )
        return list(await handle.fleet.remote())

    return ask


def ask_scaling_log(service: str) -> AskScaling:
    """Asks the service's log of scaling decisions; only within a replica."""
    log: Any = None

    async def ask(decisions: int) -> list[dict[str, Any]]:
        nonlocal log
        if log is None:
            from forebay.serving.scaling_log import scaling_log

            log = await asyncio.to_thread(scaling_log, service)
        try:
            return list(await log.last.remote(decisions))
        except Exception:  # dead: the next decision makes a new one
            log = None
            return []

    return ask
