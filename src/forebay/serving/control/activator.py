"""The front door of a fleet of none.

While no replica runs, HAProxy sends everything to Serve's own proxy on the head node. Ray would
hold a request there until a replica has come; clients and whatever is between give up long before a
GPU has loaded a model. Here it is refused at once: 503, and `Retry-After` is what a start takes as
measured, less what of it has passed. That same request has the fleet's first replica started. Keys
are asked for as by a replica's gate: who has none starts nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from forebay.observability.status import fleet_status
from forebay.policies.fairness import FairQueue
from forebay.policies.request import INTERACTIVE
from forebay.serving.cluster_kv import the_spec
from forebay.serving.control.fleet_status import (
    DECISIONS,
    ScalingLogHandle,
    ask_scaling_log,
    decisions_asked,
)
from forebay.serving.control.shared_tenants import SharedTenants
from forebay.serving.gate import Tenancy, key_of
from forebay.serving.http import (
    ANYBODYS,
    Access,
    App,
    Receive,
    RequestRefusedError,
    Scope,
    Send,
    access,
    retry_headers,
    send_error,
    send_response,
)
from forebay.serving.names import STATUS_PATH
from forebay.spec.files import SpecError
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import LOOK_EVERY_S, LastGood

_LOG = logging.getLogger("ray.serve")
_ACTIVATE_S = 2.0  # for the log to answer; without it, what the file says is told, and no decisions
_HEALTH = "/health"
_SERVES_OWN = "/-/"  # health and routes of the proxy itself
# Of what is left of a start, and at least, that clients are spread over: all who came during it
# would be back in the same instant, at a single replica.
_SPREAD, _LEAST_SPREAD_S = 0.25, 2.0

Activate = Callable[[float], Awaitable[float]]
Decisions = Callable[[int], Awaitable[list[dict[str, Any]]]]
_OF_A_START = 200  # decisions: half an hour in which one changes nothing but every tenth is kept


class Activator:
    """ASGI app in front of Serve's proxy: refuses while there is no replica."""

    def __init__(
        self,
        app: App,
        spec: ServiceSpec,
        is_served: Callable[[], bool],
        activate: Activate,
        decisions: Decisions,
        last_good: LastGood | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Everything goes on to `app` while `is_served`.

        Args:
            app: Serve's proxy.
            spec: the service.
            is_served: whether there is a replica to ask.
            activate: says that somebody asks for one; given the seconds that a start is assumed to
                take, returns those until it is worth asking again.
            decisions: so many of the last ones on the fleet's size.
            last_good: of the tenants file, shared by the fleet; None: by nobody.
            jitter: values in [0, 1) that spread clients' return.

        Raises:
            SpecError: the tenants file is wrong, and there is no last good version of it.
        """
        self._app = app
        self._spec = spec
        self._is_served = is_served
        self._activate = activate
        self._decisions = decisions
        self._jitter = jitter
        weights = FairQueue({INTERACTIVE: 1.0})
        self._tenancy = Tenancy(spec, "door", time.monotonic, weights, last_good)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or scope["path"].startswith(_SERVES_OWN) or self._is_served():
            await self._app(scope, receive, send)
            return
        try:
            await self._refuse(scope, send)
        except RequestRefusedError as refusal:
            status, headers = refusal.status, refusal.headers
            await send_error(send, status, refusal.message, refusal.code, headers=headers)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        if path not in ANYBODYS and scope["method"] != "OPTIONS":
            self._tenancy.caller(key_of(scope))
        if path == STATUS_PATH and scope["method"] == "GET":
            count = max(decisions_asked(scope.get("query_string", b"")), DECISIONS)
            status = fleet_status(self._spec.name, [], await self._told(count))
            await send_response(send, 200, json.dumps(status).encode())
        elif path == _HEALTH and await self._sleeps():
            # And is well: a load balancer that took this service out could not wake it.
            await send_response(send, 200, b"")
        elif access(path) is Access.CLOSED:
            raise RequestRefusedError(
                404, f"No such path: {scope['method']} {path}.", "unknown_path"
            )
        elif access(path) is Access.COSTED and scope["method"] == "POST":
            seconds = await self._activated()
            seconds += max(_SPREAD * seconds, _LEAST_SPREAD_S) * self._jitter()
            message = f"No replica runs yet; one is being started. Retry after {seconds:.0f} s."
            await send_error(send, 503, message, "starting", headers=retry_headers(seconds))
        else:
            await send_error(send, 503, "No replica runs.", "no_replica")

    async def _sleeps(self) -> bool:
        """Whether there are no replicas since none were needed, or are again since somebody asked.

        A service that has only been started has never had any, and is not ready.
        """
        if self._spec.scaling.min:
            return False
        told = await self._told(_OF_A_START)
        return any(one["target"] == 0 or one["ready"] > 0 for one in told)

    async def _told(self, count: int) -> list[dict[str, Any]]:
        """So many of the last decisions; none where the log does not answer."""
        try:
            return await asyncio.wait_for(self._decisions(count), _ACTIVATE_S)
        except Exception as error:
            _LOG.warning("the log of scaling decisions does not answer (%r)", error)
            return []

    async def _activated(self) -> float:
        assumed_s = self._spec.scaling.cold_start
        try:
            return await asyncio.wait_for(self._activate(assumed_s), _ACTIVATE_S)
        except Exception as error:
            _LOG.warning("nobody hears that a replica is asked for (%s)", error)
            return assumed_s


def door(app: App, spec: ServiceSpec) -> Activator:
    """The door of a service, in Serve's proxy."""
    from forebay.serving.router import has_replicas

    log = ScalingLogHandle(spec.name)

    async def activate(assumed_s: float) -> float:
        return float(await log.ask("activate", assumed_s))

    decisions, last_good = ask_scaling_log(spec.name), SharedTenants(spec.name)
    return Activator(app, spec, has_replicas, activate, decisions, last_good)


class LateActivator:
    """The door once the service is known, which is after this proxy has begun."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._door: Activator | None = None
        self._wrong_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        own = scope["type"] != "http" or scope["path"].startswith(_SERVES_OWN)
        if not own and self._door is None and time.monotonic() >= self._wrong_until:
            self._make()
        if not own and self._door is None and self._wrong_until > 0.0:
            message = "The service's tenants file is wrong, so nobody can be let in."
            await send_error(send, 503, message, "no_tenants")
            return
        await (self._app if own or self._door is None else self._door)(scope, receive, send)

    def _make(self) -> None:
        """Make the door, where that can be done."""
        if (spec := the_spec()) is None:
            return
        try:
            self._door = door(self._app, spec)
        except SpecError as error:
            _LOG.warning("%s", error)
            # Whoever asks meanwhile has no file read, on the loop that says how the proxy is.
            self._wrong_until = time.monotonic() + LOOK_EVERY_S


def in_proxy() -> bool:
    """Whether this process is one of Serve's proxies."""
    import ray
    from ray.serve._private.constants import SERVE_PROXY_NAME

    name = ray.get_runtime_context().get_actor_name() if ray.is_initialized() else None
    return bool(name and name.startswith(SERVE_PROXY_NAME))
