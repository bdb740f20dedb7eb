"""Ctrl-C: what is new is refused, and what runs is waited for, `server.drain` at most.

No single part of a service knows what still runs, so three are asked, in an order in which nothing
falls between two: the replicas, for tickets that are open; Serve, for replicas that no router hears
of and that may have streams, for whoever left the fleet before the first question is STOPPING by
the second; and HAProxy, where an answer waits for a slow client long after its replica has done
with it. Who fails to answer is taken to be busy. Only where Serve's controller, through which all
others are heard of, has said nothing for half a minute, no further waiting would tell anything: the
drain ends then, and says so. Each question is put in a thread (`in_time.py`), so that none makes
the drain longer by more than its limit.

HAProxy is asked on every node that has a proxy, in a cluster that was joined as far as a task of
Ray's gets at its socket (`proxy_sessions.py`); workers of before the fleet last changed are not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from forebay.serving.cluster.in_time import InTime
from forebay.serving.names import INGRESS_DEPLOYMENT, STATS_PERIOD_S

_SILENT_S = 30.0  # a controller that Ray starts again answers within some ten seconds
# Serve's words for replicas that may have streams, and are in nobody's fleet.
_UNHEARD = ("STOPPING", "RECOVERING")
_ROUTED = ("RUNNING", "PENDING_MIGRATION")  # those that routers hear of

Say = Callable[[str], None]


class Drained(Protocol):
    """The service."""

    def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last."""

    def begin_drain(self) -> None:
        """Have every replica that is ready now refuse what is new."""


class Proxies(Protocol):
    """What carries requests between clients and replicas."""

    def ages(self, nodes: Iterable[str]) -> list[int]:
        """Seconds since the beginning of each request that those of `nodes` carry."""


class Drain:
    """One drain of the service `name`, of at most `most_s` seconds."""

    def __init__(
        self, name: str, most_s: float, service: Drained, proxies: Proxies, say: Say
    ) -> None:
        """Nothing is asked yet; `say` takes a line for whoever waits."""
        self._name = name
        self._most_s = most_s
        self._say = say
        self._begin = InTime(partial(_tell_all, service))
        self._fleet = InTime(service.fleet)
        self._status = InTime(_serve_status)
        self._proxies = proxies
        self._waits_for = ""

    def run(self) -> bool:
        """Drain; whether everything that was running has ended."""
        began = time.monotonic()
        while not self._has_told():
            self._status.answer()  # it only matters whether it comes
            if self._gives_up(began):
                return False
            time.sleep(STATS_PERIOD_S)
        time.sleep(2 * STATS_PERIOD_S)  # until what replicas publish is from after the call
        while waits_for := self._still_running(began):
            self._tell(waits_for)
            if self._gives_up(began):
                return False
            self._has_told()  # who has become ready since; those who were go on if this fails
            time.sleep(STATS_PERIOD_S)
        return True

    def _gives_up(self, began: float) -> bool:
        now = time.monotonic()
        since = self._status.unanswered_since
        silent_s = 0.0 if since is None else now - since
        if silent_s < _SILENT_S:
            return now > began + self._most_s
        self._say(
            f"Serve's controller has not answered for {silent_s:.0f} s, so nobody can tell what "
            "still runs; not waiting any longer"
        )
        return True

    def _tell(self, waits_for: str) -> None:
        """Say what the drain waits for whenever that changes."""
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._say(f"waiting for {waits_for}")

    def _has_told(self) -> bool:
        """Tell every replica to drain; whether that has worked."""
        return self._begin.answer() is not None

    def _still_running(self, began: float) -> str:
        """What runs since before the drain `began`, or who does not say; empty: nothing."""
        fleet = self._fleet.answer()
        status = self._status.answer()
        if status is None:
            return "word from Serve's controller"
        if fleet is None:
            return "word from the replicas"
        if any(replica.get("tickets", 1) for replica in fleet):
            return "requests that run"
        states = _replica_states(status, self._name)
        if any(states[state] for state in _UNHEARD):
            return "replicas that stop"
        if len(fleet) < sum(states[state] for state in _ROUTED):
            return "replicas that no router has heard of"
        return self._carried(began, status.proxies)

    def _carried(self, began: float, nodes: Iterable[str]) -> str:
        """Whether HAProxy still carries a request of before the drain `began` (s).

        What comes during the drain is refused, and not waited for.
        """
        try:
            ages = self._proxies.ages(nodes)
        except Exception:
            return "word from HAProxy"
        # HAProxy tells whole seconds: up to one too few.
        since_s = time.monotonic() - began - 1.0
        return "clients that still read" if any(age >= since_s for age in ages) else ""


def _tell_all(service: Drained) -> bool:
    service.begin_drain()
    return True


def _serve_status() -> Any:
    from ray import serve

    return serve.status()


def _replica_states(status: Any, name: str) -> Counter[str]:
    """How many replicas are in which of Serve's states, without the ingress."""
    states: Counter[str] = Counter()
    application = status.applications.get(name)
    for deployment, told in application.deployments.items() if application else ():
        if deployment != INGRESS_DEPLOYMENT:
            states.update(told.replica_states)
    return states
