"""``python -m forebay.mock``: a mock server in a process of its own.

Reads a spec (JSON, see `spec.MockSpec`) from stdin and prints ``{"url": ...}`` once it answers.
SIGINT or SIGTERM ends it: the log is written, and ``{"summary": ...}`` is the last line. Exit
codes: 0 ended so; 2 the spec is wrong; 3 the port, the cores or the log cannot be had.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from forebay.mock.mock_process import run
from forebay.mock.spec import MockSpec


def main() -> int:
    """Serves the spec on stdin; returns the exit code."""
    try:
        spec = MockSpec.parse(sys.stdin.read())
    except ValueError as error:
        return _fail(error, 2)
    try:
        summary = run(spec, lambda url: _print({"url": url}))
    except OSError as error:
        return _fail(error, 3)
    _print({"summary": summary})
    return 0


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"forebay.mock: {error}\n")
    return code


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
