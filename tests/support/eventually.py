"""Waiting for what a running service tells with a delay."""

from __future__ import annotations

import time
from collections.abc import Callable

_LOOK_S = 0.2
_PATIENCE_S = 150.0  # a start of several replicas on two cores


def eventually(condition: Callable[[], bool], within_s: float = _PATIENCE_S) -> bool:
    """Whether a condition comes to hold within so many seconds."""
    give_up = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(_LOOK_S)
    return True
