"""One answer on its way: the script, whose it is, and where it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.mock.timing import Sending

if TYPE_CHECKING:
    from forebay.mock.log import RequestLog
    from forebay.mock.mock_connection import MockConnection
    from forebay.mock.mock_requests import Request
    from forebay.mock.scripts import Script


class Answer(Sending):
    """One answer on its way to its client."""

    __slots__ = ("closes", "connection", "entry", "head", "script")

    def __init__(self, script: Script, request: Request, connection: MockConnection) -> None:
        super().__init__(script.offsets)
        self.script = script
        self.connection = connection
        self.closes = script.closes or not request.keep_alive
        self.head = script.head  # until it is sent
        self.entry: RequestLog | None = None  # of a request for tokens
