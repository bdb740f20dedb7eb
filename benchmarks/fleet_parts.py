"""What the benchmarks of an emulated fleet have in common: the fleet, its limits, its state.

All times are those of the slowed engines. The front door is not slowed: a refusal's latency and
CPU are real, and so is a quota's minute.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from client import ROOT
from forebay.engine_model import PROFILES
from forebay.measure import RequestRecord, percentile
from forebay.spec.service import load_service

FILE = ROOT / "examples" / "emulated-fleet.yaml"
SERVICE = load_service(FILE)
SLOWED = SERVICE.model.slowed
ENGINE = PROFILES[SERVICE.model.source].slowed(SLOWED)
REPLICAS = SERVICE.scaling.min
TTFT_S, TPOT_S = SERVICE.slo.ttft_p99 * SLOWED, SERVICE.slo.tpot_p99 * SLOWED
QUIET_S = 240.0  # within which a fleet that is asked nothing has ended what it was at

Status = dict[str, Any]


def capacity(prompt: int, answer: int) -> float:
    """Requests/s that the fleet serves while tokens come at just the pace that its SLO promises.

    A step of T seconds gives each running sequence a token and computes the prompts that came in
    it: T = base + x T w at x requests/s of w seconds of work each. So x = (1 - base / T) / w.

    Args:
        prompt: tokens of each prompt, none of them cached.
        answer: tokens of each answer.
    """
    law = ENGINE.step_time
    prompt_s = law.prefill_token * prompt + law.prefill_pair * prompt * prompt / 2
    token_s = law.decode_sequence + law.context_token * (prompt + answer / 2)
    return REPLICAS * (1.0 - law.base / TPOT_S) / (prompt_s + answer * token_s)


def status(url: str, headers: Mapping[str, str] | None = None) -> Status:
    """The fleet's state as Forebay tells it."""
    request = urllib.request.Request(f"{url}/forebay/status", headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: Status = json.load(answer)
    return found


def in_flight(found: Status) -> int:
    """Sequences that wait or run."""
    return sum(one["queued"] + one["running"] for one in found["classes"].values())


def until_quiet(busy: Callable[[], int]) -> None:
    """Wait until nothing is in flight any more.

    Raises:
        RuntimeError: something still was after `QUIET_S`.
    """
    give_up = time.monotonic() + QUIET_S
    time.sleep(1.5)  # what is told is up to a second old
    while _asked(busy) != 0:
        if time.monotonic() > give_up:
            raise RuntimeError(f"the fleet was still busy after {QUIET_S:g} s")
        time.sleep(1.0)


def _asked(busy: Callable[[], int]) -> int | None:
    """What is in flight; None while the routers of a fleet that has just started are silent."""
    try:
        return busy()
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return None


def late_percent(replicas: Sequence[Status]) -> float:
    """Lateness p99 of the worst replica, in percent of a step."""
    return 100 * max(one["late_p99"] or 0.0 for one in replicas)


def ttft_percentile(records: Sequence[RequestRecord], rank: float) -> float | None:
    """A percentile of the TTFT of those that got a first token, in seconds."""
    return percentile([r.ttft for r in records if r.ttft is not None], rank)


def in_time(records: Sequence[RequestRecord]) -> int:
    """Requests that finished, their first token within the SLO."""
    return sum(record.is_good(TTFT_S) for record in records)
