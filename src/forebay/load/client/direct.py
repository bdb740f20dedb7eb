"""HTTP requests that go where they are addressed: the load itself takes no proxy either."""

from __future__ import annotations

import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_directly(request: str | urllib.request.Request, timeout_s: float) -> Any:
    """As `urllib.request.urlopen`, whatever `http_proxy` says.

    Raises:
        OSError: nothing answers, or it answers with an error (`urllib.error.HTTPError`).
    """
    return _OPENER.open(request, timeout=timeout_s)
