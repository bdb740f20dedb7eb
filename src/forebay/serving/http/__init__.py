"""HTTP in a replica: ASGI helpers, routes, bodies and their limits, errors."""

from forebay.serving.http.asgi import (
    App,
    BodyTooLargeError,
    ClientGoneError,
    Message,
    Receive,
    Scope,
    Send,
    before_shutdown,
    header,
    live_through,
    read_body,
    readable_by_scripts,
    replay,
    send_response,
)
from forebay.serving.http.bodies import (
    LIMITS_OF,
    InputLimits,
    ParsedRequest,
    check_tokenized,
    parse_body,
    read_request,
)
from forebay.serving.http.body_reader import BodyReader
from forebay.serving.http.error_shaper import ErrorShaper
from forebay.serving.http.errors import RequestRefusedError, retry_headers, send_error
from forebay.serving.http.prompt_head import prompt_of, read_prompt
from forebay.serving.http.routes import ANYBODYS, COSTED, Access, access

__all__ = [
    "ANYBODYS",
    "COSTED",
    "LIMITS_OF",
    "Access",
    "App",
    "BodyReader",
    "BodyTooLargeError",
    "ClientGoneError",
    "ErrorShaper",
    "InputLimits",
    "Message",
    "ParsedRequest",
    "Receive",
    "RequestRefusedError",
    "Scope",
    "Send",
    "access",
    "before_shutdown",
    "check_tokenized",
    "header",
    "live_through",
    "parse_body",
    "prompt_of",
    "read_body",
    "read_prompt",
    "read_request",
    "readable_by_scripts",
    "replay",
    "retry_headers",
    "send_error",
    "send_response",
]
