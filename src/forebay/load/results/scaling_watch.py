"""A Forebay service's size and scaling decisions during a run, read from its status."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from forebay.load.client import open_directly
from forebay.load.run import LoadPlan
from forebay.measure import FleetSize

SCALING = "scaling.jsonl"
_PATH = "/forebay/status"
_PERIOD_S = 1.0
_TIMEOUT_S = 12.0  # the service itself waits for up to 11 s for its parts
_MOST_BYTES = 16 << 20
_LOOKS_BEFORE = 3  # that tell nothing of a run, after which none are expected to,
_UNANSWERED_BEFORE = 10  # and so many that were not answered at all

Decision = dict[str, Any]
OnSize = Callable[[FleetSize], None]


class ScalingFileError(ValueError):
    """A file of decisions cannot be read; the message names it and says why."""


def status_reader(plan: LoadPlan) -> Callable[[], Any]:
    """What reads the status of the plan's endpoint, with any tenant's key where there are some.

    It raises OSError where nobody answers with 200, as a server that is not Forebay does not, and
    ValueError where the answer is not JSON.
    """
    tenants = list(plan.tenant_headers.values())
    headers = {**(tenants[0] if tenants else {}), **plan.headers}
    request = urllib.request.Request(f"{plan.endpoint.url}{_PATH}", headers=headers)

    def read() -> Any:
        with open_directly(request, _TIMEOUT_S) as answer:
            return json.loads(answer.read(_MOST_BYTES))

    return read


class ScalingWatch:
    """Reads decisions and sizes in a thread of its own, from second 0 to `stop`.

    A status holds the last decisions too, so that one which is not answered loses little. Where
    the first looks show neither a decision nor an emulated engine, as of another server or of a
    fleet of real engines and fixed size, no more is asked.

    Attributes:
        sizes: of the fleet, at each look that was answered.
        late: most steps by which an emulated engine was late at p99; None: none is emulated.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        period_s: float = _PERIOD_S,
        on_size: OnSize | None = None,
    ) -> None:
        """`read` makes one status; `on_size` is told each size, in the watching thread."""
        self._read = read
        self._period_s = period_s
        self._on_size = on_size
        self.sizes: list[FleetSize] = []
        self.late: float | None = None
        self._found: dict[float, Decision] = {}
        self._looks = self._unanswered = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = 0.0

    def start(self, start_at: float) -> None:
        """Begins; `start_at` is second 0, as `time.time` has it."""
        self._since = start_at
        self._thread = threading.Thread(target=self._run, args=(start_at,), daemon=True)
        self._thread.start()

    def stop(self) -> list[Decision]:
        """Ends; the decisions since second 0, in order."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return [one for at, one in sorted(self._found.items()) if at >= self._since]

    def look(self) -> None:
        """Take in one status; what cannot be read is no reason to stop a run."""
        try:
            status = self._read()
            for one in status.get("scaling", []):
                self._found[float(one["at"])] = one
            late = [one["late_p99"] for one in status["replicas"] if "late_p99" in one]
            self.late = max((at for at in (*late, self.late) if at is not None), default=None)
            self._note(FleetSize.told(time.time() - self._since, status))
        except OSError as error:
            # A server of another kind refuses the path; one that is busy does not answer just now.
            if getattr(error, "code", 500) >= 500:
                self._unanswered += 1
                return
        except (HTTPException, ValueError, KeyError, TypeError, AttributeError):
            pass
        self._looks += 1

    def _note(self, size: FleetSize) -> None:
        self.sizes.append(size)
        if self._on_size is not None:
            self._on_size(size)

    def _run(self, start_at: float) -> None:
        due = start_at
        while not self._stop.wait(max(0.0, due - time.time())):
            self.look()
            tells_nothing = not self._found and self.late is None
            enough = self._looks >= _LOOKS_BEFORE or self._unanswered >= _UNANSWERED_BEFORE
            if tells_nothing and enough:
                return
            due = max(due + self._period_s, time.time())


def write_decisions(path: Path, decisions: Iterable[Decision]) -> None:
    """One decision a line.

    Raises:
        OSError: it cannot be written.
    """
    lines = (json.dumps(one, allow_nan=False) for one in decisions)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def read_decisions(run: Path) -> list[Decision]:
    """The decisions that a run's folder holds.

    Raises:
        ScalingFileError: it holds none, or they cannot be read.
    """
    path = run / SCALING
    if not run.is_dir():
        raise ScalingFileError(f"{run} is not a run's folder")
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise ScalingFileError(
            f"{run} holds no {SCALING}: `forebay load` and `forebay demo --workload` write it of a "
            "Forebay service whose scaling.min is below its scaling.max"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScalingFileError(f"{path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            one = json.loads(line)
        except ValueError:
            raise ScalingFileError(f"{path}: line {number} is not JSON") from None
        if not isinstance(one, dict):
            raise ScalingFileError(f"{path}: line {number} is not a scaling decision")
        found.append(one)
    if not found:
        raise ScalingFileError(f"{path} is empty")
    return found
