"""What `static_bounds.py` offers, and what of it counts as good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import systems
from client import WORKLOADS, Workload, played, settle, spare_cores, traced
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import RequestRecord

SLO_S = 1.0
NAMES = (*WORKLOADS, "mix", "shift")

Asked = tuple[float, int, int]  # at second, prompt tokens, output tokens


def with_mix(capacity: Mapping[str, float]) -> dict[str, float]:
    """The capacities, with that of equal numbers of all three.

    Raises:
        KeyError: one of the three is not there.
    """
    return {**capacity, "mix": len(WORKLOADS) / sum(1 / capacity[name] for name in WORKLOADS)}


@dataclass(frozen=True)
class Offer:
    """A workload at a multiple of its capacity, open loop.

    Attributes:
        workload: one of `NAMES`.
        factor: x the capacity.
        capacity: requests/s, by workload.
        seconds: how long it is offered.
        filling_s: what is sent before it does not count, since an empty engine takes whatever comes
            first, whatever stands in front of it.
    """

    workload: str
    factor: float
    capacity: Mapping[str, float]
    seconds: float
    filling_s: float

    def __str__(self) -> str:
        return f"{self.workload} {self.factor:g} x"

    @property
    def counted_s(self) -> float:
        """Seconds whose requests count."""
        return self.seconds - self.filling_s

    def arrivals(self, seed: int) -> list[Asked]:
        """Poisson arrivals, in order; the same for the same seed."""
        if self.workload != "shift":
            return self._poisson(self.workload, self.seconds, seed)
        half = self.seconds / 2
        then = self._poisson("long prompts", half, seed + 1)
        return self._poisson("short", half, seed) + [(half + at, p, o) for at, p, o in then]

    def _poisson(self, name: str, seconds: float, seed: int) -> list[Asked]:
        rng = np.random.default_rng(seed)
        rate = self.factor * self.capacity[name]
        kinds: Sequence[Workload] = list(WORKLOADS.values()) if name == "mix" else [WORKLOADS[name]]
        asked: list[Asked] = []
        for at in np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds) + 1)):
            kind = kinds[int(rng.integers(len(kinds)))]
            asked.append((float(at), kind.prompt_tokens, kind.output_tokens))
        return [one for one in asked if one[0] < seconds]

    def play(self, url: str, *, seed: int, attempts: int = 1) -> LoadRun:
        """Offer it, once the server has nothing left to do; no prompt is ever sent twice.

        Raises:
            KeyboardInterrupt: Ctrl-C came; what was measured by then is no round.
        """
        settle(url)
        rows = [
            {"at_s": at, "prompt_tokens": prompt, "output_tokens": output}
            for at, prompt, output in self.arrivals(seed)
        ]
        with traced(self.workload, rows) as spec:
            return played(
                LoadPlan(
                    endpoint=Endpoint(url=url, model=systems.MODEL),
                    workload=spec,
                    cores=spare_cores(),
                    timeout_s=60.0,
                    attempts=attempts,
                    keep_token_times=False,
                )
            )

    def good_per_s(self, records: Sequence[RequestRecord]) -> float:
        """Requests/s that finished with their first token in time."""
        return sum(r.is_good(SLO_S) for r in self._counted(records)) / self.counted_s

    def done_per_s(self, records: Sequence[RequestRecord]) -> float:
        """Requests/s that finished, however late."""
        return sum(r.outcome == "ok" for r in self._counted(records)) / self.counted_s

    def _counted(self, records: Sequence[RequestRecord]) -> list[RequestRecord]:
        return [r for r in records if r.intended_s >= self.filling_s]
