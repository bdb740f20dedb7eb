"""Whether a run may be believed: its client must not have been what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.measure.lateness import MOST_LATE

# An emulation with less of the machine to spare is one by chance: the next second may lack some.
LEAST_IDLE = 0.15
# Beyond this the client's own lateness is a visible part of a 1 s TTFT, and grows with load.
MAX_CLIENT_LAG_S = 0.020
# A loop that stood still for so long stamped whatever came meanwhile late, if only once.
MAX_STALL_S = 0.250
# A worker that is busy for so much of a core has no room for the next burst.
MAX_CPU_SHARE = 0.90
# Offered so much less than planned, another load was tested than the one asked for.
MIN_OFFERED_SHARE = 0.99
# CPU time that the host takes comes in stretches: so much of it explains a machine that was late.
_MUCH_STOLEN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """How a run's client fared.

    Attributes:
        workers: processes.
        realtime: whether every worker ran under real-time scheduling.
        realtime_reason: why not.
        lag_p50_s, lag_p99_s, lag_max_s: actual minus intended send; None when nothing was sent.
        stall_max_s: longest time that an event loop was late to wake.
        cpu_share: CPU seconds over wall seconds of the busiest worker.
        cpu_s: CPU seconds of all workers.
        planned: sessions that the schedule holds; None in a closed loop.
        begun: sessions of which the first turn was asked.
        no_socket: requests for which this machine gave no connection.
        interrupted: stopped before its end; then fewer may have been offered than planned.
        machine_idle: share of this machine's CPU time that nobody used during the run, where the
            service is on it too.
        machine_stolen: share that its host gave to others instead (steal); None where it is not
            told.
    """

    workers: int = 1
    realtime: bool = False
    realtime_reason: str = ""
    lag_p50_s: float | None = None
    lag_p99_s: float | None = None
    lag_max_s: float | None = None
    stall_max_s: float = 0.0
    cpu_share: float = 0.0
    cpu_s: float = 0.0
    planned: int | None = None
    begun: int = 0
    no_socket: int = 0
    interrupted: bool = False
    machine_idle: float | None = None
    machine_stolen: float | None = None


@dataclass(frozen=True, slots=True)
class Validity:
    """The verdict, and each reason against; what was looked at, where there is none."""

    valid: bool
    reasons: Sequence[str]

    def __str__(self) -> str:
        return ("valid: " if self.valid else "INVALID: ") + "; ".join(self.reasons)


def with_emulation(
    verdict: Validity, late: float | None, idle: float | None = None, stolen: float | None = None
) -> Validity:
    """The verdict on a run whose engines may have been emulated.

    Args:
        verdict: on the client.
        late: steps by which they were late at p99; None: they are real, or do not tell.
        idle: `ClientFacts.machine_idle`.
        stolen: `ClientFacts.machine_stolen`; tells of this machine, and so of the engines only
            where `idle` says that they are on it.
    """
    if late is None:
        return verdict
    against = []
    if late > MOST_LATE:
        against.append(f"the emulated engine was late by {late:.0%} of a step at p99")
    if idle is not None and idle < LEAST_IDLE:
        against.append(f"{idle:.0%} of this machine was idle, with emulated engines on it")
    if not against:
        return verdict
    taken = "" if idle is None else _stolen(stolen)
    against[-1] += f": it is too slow for this{taken}; raise model.slowed"
    return Validity(False, (*against, *(() if verdict.valid else verdict.reasons)))


def judge(facts: ClientFacts) -> Validity:
    """Whether the client's figures are the server's."""
    if facts.lag_p99_s is None:
        return Validity(False, ("nothing was sent",))
    against = [reason for reason in _doubts(facts) if reason]
    if against:
        return Validity(False, tuple(against))
    return Validity(
        True, (f"client lag p99 {_ms(facts.lag_p99_s)}, at most {_ms(MAX_CLIENT_LAG_S)}",)
    )


def _doubts(facts: ClientFacts) -> list[str]:
    lag, share = facts.lag_p99_s or 0.0, facts.cpu_share
    taken = _stolen(facts.machine_stolen)
    doubts = []
    if not lag <= MAX_CLIENT_LAG_S:
        late = f"lag p99 {_ms(lag)}, above {_ms(MAX_CLIENT_LAG_S)}"
        doubts.append(f"the client was late: {late}{taken}{_remedy(facts)}")
    if facts.stall_max_s > MAX_STALL_S:
        stood = f"the client stood still for {_ms(facts.stall_max_s)}"
        doubts.append(f"{stood}{taken}{_remedy(facts)}")
    if share > MAX_CPU_SHARE:
        doubts.append(f"the client was busy: {share:.0%} of a core in one worker; use more workers")
    if facts.no_socket:
        doubts.append(
            f"this machine gave no connection for {facts.no_socket} requests: raise its limit of "
            "open files (ulimit -n) or its range of ports"
        )
    if facts.planned and not facts.interrupted and facts.begun < MIN_OFFERED_SHARE * facts.planned:
        doubts.append(f"only {facts.begun} of {facts.planned} planned sessions were begun")
    return doubts


def _remedy(facts: ClientFacts) -> str:
    if facts.realtime:
        return ""
    return f" (not scheduled in real time: {facts.realtime_reason or 'not asked for'})"


def _stolen(share: float | None) -> str:
    if share is None or share < _MUCH_STOLEN:
        return ""
    return f", its host gave {share:.0%} of its CPU time to others"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
