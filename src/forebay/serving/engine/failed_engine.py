"""What a replica answers whose engine has died, until Serve's health check has ended it.

vLLM's app refuses such a request at once, with a 500 and not a word of when to come again. Who is
rid of everything so fast looks idle, too, and would be sent all there is; so the replica also
publishes that it takes nothing new (`replica_process.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forebay.serving.http import Access, App, Receive, Scope, Send, access, send_error

_MESSAGE = "The replica's engine has failed; the request may be sent again."


class FailedEngine:
    """ASGI app in front of the engine's: answers in its place what the engine no longer can."""

    def __init__(self, app: App, has_failed: Callable[[], bool]) -> None:
        """All goes on to `app` until the engine `has_failed`."""
        self._app = app
        self._has_failed = has_failed
        self.routes: list[Any] = list(getattr(app, "routes", []))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and self._has_failed() and _needs_engine(scope):
            await send_error(send, 503, _MESSAGE, "replica_failed")  # when: see `error_shaper.py`
            return
        await self._app(scope, receive, send)


def _needs_engine(scope: Scope) -> bool:
    return bool(scope["method"] == "POST") and access(scope["path"]) is Access.COSTED
