"""What admission decides, and by which limits: the values that go in and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Literal, NamedTuple

from forebay.policies.request.tickets import Sequence, Ticket

ShedReason = Literal[
    "ttft_budget",
    "queue_full",
    "fair_share",
    "promise_kept",
    "tpot",
    "quota",
    "draining",
]

INTERACTIVE, BATCH = "interactive", "batch"


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Promise for one class: TTFT budget and abort deadline, in seconds; its scheduling weight."""

    ttft_s: float
    deadline_s: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """Fixed limits of one replica.

    Attributes:
        classes: the promise for each class, by name.
        slots: sequences the engine runs at once (`max_num_seqs`).
        kv_tokens: tokens that the engine's KV blocks hold.
        step_tokens: most prompt tokens the engine computes in one step.
        margin: share of the budget kept for what the gate cannot see (proxy, router, network).
        tpot_s: most seconds per output token; sequences at once are bounded so that it is kept.
            None sets no such bound.
        max_queued_tokens: hard bound on queued prompt tokens; None derives it from the measured
            rate and the largest budget.
        batch_stretch: most by which what batch has in the engine may lengthen its steps, as a
            factor, while interactive requests come (see `batch_pacing.py`).
        heeds_marks: whether the engine's scheduler does what requests are marked for
        (`scheduling_hints.py`).
    """

    classes: Mapping[str, ClassPolicy]
    slots: int
    kv_tokens: int
    step_tokens: int
    margin: float = 0.2
    tpot_s: float | None = None
    max_queued_tokens: int | None = None
    batch_stretch: float = 1.7
    heeds_marks: bool = True


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request will be served.

    Attributes:
        ticket: under which.
        predicted_s: expected TTFT, in seconds.
        released: tickets whose requests may go to the engine now, in this order: its own, unless it
            is held, and others that were.
    """

    ticket: Ticket
    predicted_s: float
    released: SequenceOf[Ticket] = ()


@dataclass(frozen=True, slots=True)
class Shed:
    """The request is refused: why, what was predicted, and when it would fit (seconds)."""

    reason: ShedReason
    predicted_s: float
    budget_s: float
    retry_after_s: float


Decision = Admitted | Shed


class StepOutput(NamedTuple):
    """What one engine step did for one sequence. A tuple, since each token makes one.

    Attributes:
        tokens: tokens generated in this step.
        cached: prompt tokens that came from the prefix cache; None unless this is its first step.
        ended: whether the sequence has finished.
        natural: whether it finished by itself (a stop), not by a limit.
    """

    sequence: Sequence
    tokens: int
    cached: int | None = None
    ended: bool = False
    natural: bool = False
