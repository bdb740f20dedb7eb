"""Ray's own routers before the same emulated engines, with nothing of Forebay's in between.

Run as: python benchmarks/emulated_stock.py FILE PORT FOLDER ROUTER [ISOLATION]

ROUTER is one of `ROUTERS`. With "tenant" for ISOLATION every API key has cached prefixes of its
own, as a front end would have it that sets vLLM's `cache_salt`.

Each replica writes what it did to FOLDER/PID.json once a second. While there is a number in
FOLDER/bound, a replica answers 503 to whoever comes while it has so many requests in flight; it
looks at the file five times a second.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from forebay.serving.http import App, Receive, Scope, Send, header, send_error
from stock_serve import serve_until_stopped

_LOOK_S = 0.2
_WRITE_EVERY = 5  # looks

Salt = ContextVar[str | None]  # made in the replica: it does not travel there

ROUTERS = {
    "round-robin": "ray.serve.experimental.round_robin_router:RoundRobinRouter",
    "power-of-two": "ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter",
    "prefix-affinity": "ray.serve.llm.request_router:PrefixCacheAffinityRouter",
}
# Not compared with: `KVAwareRouter`, which chooses by the KV events of vLLM's engines. The emulated
# engine publishes none, and the router needs the `dynamo` package.


class PlainReplica:
    """An emulated engine's API by itself."""

    def __init__(self, file: str, folder: str, isolated: bool) -> None:
        from forebay.spec.service import load_service

        self._spec = load_service(Path(file))
        self._isolated = isolated
        self._out = Path(folder) / f"{os.getpid()}.json"
        self._bound = Path(folder) / "bound"

    async def __serve_build_asgi_app__(self) -> Any:
        from forebay.engine_model import PROFILES
        from forebay.serving.emulated import EmulatedEngine
        from forebay.serving.emulated.api import EmulatedApi

        model = self._spec.model
        self._engine = EmulatedEngine(
            PROFILES[model.source].slowed(model.slowed), time.perf_counter
        )
        salt: Salt = ContextVar("salt", default=None)
        self._counts = Counts(salt)
        self._engine.attach(self._counts)  # type: ignore[arg-type]
        self._app = Bounded(EmulatedApi(self._engine, model.id), salt, self._isolated)
        self._looking = asyncio.get_running_loop().create_task(self._look_forever())
        return self._app

    async def _look_forever(self) -> None:
        for look in itertools.count():
            if self._bound.exists():
                self._app.bound = int(self._bound.read_text() or self._app.bound)
            if look % _WRITE_EVERY == 0:
                self._write()
            await asyncio.sleep(_LOOK_S)

    def _write(self) -> None:
        more = {"late_p99": self._engine.lateness.p99, "in_flight": self._app.in_flight}
        whole = self._out.with_suffix(".new")
        whole.write_text(json.dumps({**self._counts.shown(), **more}))
        whole.replace(self._out)  # who reads it meanwhile finds the one before


class Bounded:
    """An app that takes up only so many requests at once and refuses what comes beyond.

    With `isolated`, requests of different keys share no cached prefix.
    """

    def __init__(self, app: App, salt: Salt, isolated: bool) -> None:
        self._app = app
        self._salt = salt
        self._isolated = isolated
        self.routes = app.routes  # type: ignore[attr-defined]
        self.bound = 10**9
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self.in_flight >= self.bound:
            await send_error(send, 503, "Too many requests in flight.", "overloaded")
            return
        if self._isolated:
            self._salt.set((header(scope, b"authorization") or b"").decode() or None)
        self.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1


class Counts:
    """Stands where Forebay's tap would, and only counts."""

    def __init__(self, salt: Salt) -> None:
        self._salt = salt
        self.requests = self.prompt_tokens = self.cached_tokens = self.output_tokens = 0

    def shown(self) -> dict[str, int]:
        """Everything counted."""
        return {name: count for name, count in vars(self).items() if name != "_salt"}

    def on_add(self, request: Any) -> None:
        request.cache_salt = self._salt.get()
        self.requests += 1
        self.prompt_tokens += len(request.prompt_token_ids)

    def on_step(self, outputs: Any, engine_at: float) -> None:
        for output in outputs:
            self.output_tokens += len(output.new_token_ids)
            if output.prefill_stats is not None:
                self.cached_tokens += output.prefill_stats.num_cached_tokens


def main() -> None:
    file, port, folder, router, *more = sys.argv[1:]
    isolated = more == ["tenant"]
    serve_until_stopped(int(port), lambda: deploy(Path(file), folder, router, isolated))


def deploy(file: Path, folder: str, router: str, isolated: bool) -> None:
    """Run the replicas of a service file behind one of Ray's routers."""
    from ray import serve
    from ray.llm._internal.serve.core.ingress.router import LLMRouter
    from ray.serve._private.utils import import_attr
    from ray.serve.config import RequestRouterConfig

    from forebay.spec.service import load_service

    replicas = serve.deployment(
        serve.ingress()(PlainReplica),
        name="plain",
        num_replicas=load_service(file).scaling.min,
        max_ongoing_requests=10**9,
        ray_actor_options={"num_cpus": 0.01},
        request_router_config=RequestRouterConfig(
            request_router_class=import_attr(ROUTERS[router])
        ),
    ).bind(str(file.resolve()), folder, isolated)
    ingress = serve.deployment(
        LLMRouter, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
    ).bind(server=replicas)
    serve.run(replicas._with_ingress_request_router(ingress))


if __name__ == "__main__":
    main()
