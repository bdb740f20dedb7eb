"""HTTP servers that take every waiting connection in a turn of the event loop.

libuv, and so uvloop, accepts one connection in a turn (libuv#3696). A replica that hands on the
tokens of some dozens of streams takes 50 to 150 ms for a turn on a busy core, so that a burst of
connections that HAProxy has to open waited for seconds, while requests on connections that were
there already took a tenth of one.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn

_AT_ONCE = 256  # connections in a turn: what is there already gets its turn, too


class EagerServer(uvicorn.Server):
    """uvicorn's server, with a second watch on what it listens on."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, as uvicorn does, and watch the same sockets beside it."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._accepted: set[asyncio.Task[object]] = set()
        self._watched = [sock.dup() for sock in sockets or []]
        for listener in self._watched:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and stop as uvicorn does."""
        for listener in self._watched:
            self._loop.remove_reader(listener)
            listener.close()
        self._watched.clear()
        await super().shutdown(sockets)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except OSError:  # none is left; out of files is uvicorn's to deal with
                return
            connection.setblocking(False)
            made = self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self.config.ssl
            )
            task: asyncio.Task[object] = self._loop.create_task(made)
            self._accepted.add(task)
            task.add_done_callback(self._accepted.discard)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes one for each connection."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def accept_all_at_once() -> None:
    """Have Serve make such servers in this process: it takes the class from uvicorn's module."""
    uvicorn.Server = EagerServer  # type: ignore[misc]
