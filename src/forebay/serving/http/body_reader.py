"""Reading a request's bytes: how many, for how long, and how many of all clients at once."""

from __future__ import annotations

from collections.abc import Callable

from forebay.serving.http.asgi import (
    BodyTooLargeError,
    BytesAtOnce,
    Headers,
    NoRoomError,
    Receive,
    Scope,
    header,
    read_body,
)
from forebay.serving.http.bodies import TEXT_PER_TOKEN, InputLimits
from forebay.serving.http.errors import RequestRefusedError, retry_headers
from forebay.serving.http.routes import Access

# HAProxy bounds the wait for a client that sends nothing more, and where there are routers for the
# first 96 KiB; one that sends a byte now and then would hold a connection and a task for ever.
_BODY_S = 60.0
# Bytes that all who are still sending may have sent: some of thousands may send slowly, and not
# each of them as much as one may.
_MOST_IN_PART = 256 * 1024 * 1024
_NO_ROOM_S = 2.0
# A context of text may be tokenized in one piece, or its ids turned into text, as JSON has them.
_TOKENIZED_BYTES = 64 * 1024
_CLOSE: Headers = [(b"connection", b"close")]  # the rest of the body may still come
_SMALL = 64 * 1024  # a body of which the rest may as well come: the connection stays


class BodyReader:
    """Reads bodies of one replica's requests."""

    def __init__(self, limits: InputLimits, jittered: Callable[[float], float]) -> None:
        """`jittered` spreads the waits, in seconds, of those who are told to come back."""
        self._limits = limits
        self._jittered = jittered
        self._in_part = BytesAtOnce(max(_MOST_IN_PART, limits.max_body))

    def most(self, access: Access) -> int:
        """Bytes of a body on such a route."""
        most = self._limits.max_body
        if access is Access.TOKENIZER:
            context = TEXT_PER_TOKEN * self._limits.context_tokens
            most = min(max(_TOKENIZED_BYTES, context), most)
        return most

    async def read(self, scope: Scope, receive: Receive, access: Access) -> bytes:
        """The whole body.

        Raises:
            ClientGoneError: the client disconnected.
            RequestRefusedError: 408, 413, 415 or 503.
        """
        content_type = header(scope, b"content-type")
        if content_type is not None and not _is_json(content_type):
            message = "Send the body as application/json."
            end = self.instead_of(scope)
            raise RequestRefusedError(415, message, "unsupported_media_type", headers=end)
        most, length = self.most(access), header(scope, b"content-length")
        try:
            if length is not None and length.isdigit() and int(length) > most:
                raise BodyTooLargeError
            return await read_body(receive, most, _BODY_S, self._in_part)
        except TimeoutError:
            message = f"The body did not come within {_BODY_S:.0f} s."
            raise RequestRefusedError(408, message, "body_timeout", headers=_CLOSE) from None
        except NoRoomError:
            message = "This replica reads as many bodies as it has room for."
            again = [*retry_headers(self._jittered(_NO_ROOM_S)), *_CLOSE]
            raise RequestRefusedError(503, message, "bodies_full", headers=again) from None
        except BodyTooLargeError:
            message = f"The body is longer than {most} bytes."
            raise RequestRefusedError(413, message, "body_too_large", headers=_CLOSE) from None

    def instead_of(self, scope: Scope) -> Headers:
        """Headers of an answer to a request whose body is not read.

        A server takes what still comes on a connection that stays, and without any of the bounds
        of here.
        """
        length = header(scope, b"content-length")
        if length is not None:
            return () if length.isdigit() and int(length) <= _SMALL else _CLOSE
        return () if header(scope, b"transfer-encoding") is None else _CLOSE

    def __repr__(self) -> str:
        return f"<BodyReader {self._in_part!r} in part>"


def _is_json(content_type: bytes) -> bool:
    media_type = content_type.split(b";", 1)[0].strip().lower()
    return media_type == b"application/json" or media_type.endswith(b"+json")
