"""Errors as OpenAI's API has them in bodies and events."""

from __future__ import annotations

import json
from typing import Any

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}


def error_object(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """OpenAI's error object, with its type for an HTTP status."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_body(status: int, message: str, code: str | None, param: str | None = None) -> bytes:
    """The JSON body of an error."""
    return json.dumps(error_object(status, message, code, param)).encode()


def error_in(body: bytes | bytearray) -> dict[str, Any] | None:
    """The ``error`` object of an OpenAI-style body; None when it is not one."""
    try:
        decoded = json.loads(body)
    except ValueError:
        return None
    error = decoded.get("error") if isinstance(decoded, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None
