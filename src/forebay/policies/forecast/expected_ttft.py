"""What users are told to expect: the likeliest first token, where admission is cautious.

Two models, each set right by what came true of its own requests: of who waits for slots or at the
gate, the queue's (`waits.py`); of who waits for nothing but steps, the engine's next steps.

Admission decides by a cautious figure, an upper quantile. What users are told and what is judged
(`/forebay/status`) is the expected one. For who waits for slots it is a line through the latest
predictions and first tokens: the model leaves a constant out and counts too much of the rest. For
who waits only for steps it is a factor: what makes these late makes them late by a multiple, and
those that are very late should not move what most are told.
"""

from __future__ import annotations

from math import exp, log

from forebay.policies.forecast.ledger import Ledger
from forebay.policies.forecast.next_step import NextStep
from forebay.policies.forecast.waiting_time import Prediction
from forebay.policies.request import Ticket

_KEEP = 0.5 ** (1 / 200)  # a first token loses half its weight in 200 more
_FEW = 20.0  # first tokens' weight, below which predictions are taken as they are
_KEEP_FACTOR = 0.5 ** (1 / 100)
_MOST_OFF = 0.2  # of logarithms: a fifth of what is usual
_LEAST_SLOPE, _MOST_SLOPE = 0.0, 3.0


class TTFTCorrection:
    """A fading fit of first tokens to predictions, both in seconds."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, predicted_s: float, actual_s: float) -> None:
        """A first token came `actual_s` after the model had predicted `predicted_s`."""
        self._weight = self._weight * _KEEP + 1.0
        self._x = self._x * _KEEP + predicted_s
        self._y = self._y * _KEEP + actual_s
        self._xx = self._xx * _KEEP + predicted_s * predicted_s
        self._xy = self._xy * _KEEP + predicted_s * actual_s

    def of(self, predicted_s: float) -> float:
        """What is to be expected where the model predicts `predicted_s`."""
        if self._weight < _FEW:
            return predicted_s
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x * mean_x
        slope = 0.0
        if variance > 1e-12:
            slope = (self._xy / self._weight - mean_x * mean_y) / variance
        slope = min(max(slope, _LEAST_SLOPE), _MOST_SLOPE)
        return max(mean_y + slope * (predicted_s - mean_x), 0.0)


class Factor:
    """What usually came true over what was predicted: a fading mean of logarithms, after Huber.

    A first token that is off by more than `_MOST_OFF` pulls no harder than one that is off by that
    (P. J. Huber, Robust Estimation of a Location Parameter, 1964).
    """

    def __init__(self) -> None:
        self._weight = self._log = 0.0

    def add(self, predicted_s: float, actual_s: float) -> None:
        """A first token came `actual_s` after the model had predicted `predicted_s`; both > 0."""
        if predicted_s <= 0.0 or actual_s <= 0.0:
            return
        self._weight = self._weight * _KEEP_FACTOR + 1.0
        off = log(actual_s / predicted_s) - self._log
        if self._weight > _FEW:
            off = min(max(off, -_MOST_OFF), _MOST_OFF)
        self._log += off / self._weight

    def of(self, predicted_s: float) -> float:
        """What is to be expected where the model predicts `predicted_s`."""
        return predicted_s if self._weight < _FEW else predicted_s * exp(self._log)


class ExpectedTTFT:
    """Expected times to first token of one replica."""

    def __init__(self, ledger: Ledger, next_step: NextStep) -> None:
        """Reads `ledger` and changes it not; tells `next_step` what happens."""
        self._ledger = ledger
        self._next_step = next_step
        self.forget()

    def forget(self) -> None:
        """What came true so far was no traffic."""
        self._queued, self._by_steps = TTFTCorrection(), Factor()

    def of(self, ticket: Ticket, prediction: Prediction, now: float) -> float:
        """Seconds to the first token of a ticket that is not in the ledger yet; noted on it."""
        if ticket.steps_aside:  # what comes of others decides, and that is learned apart
            return prediction.raw_s + prediction.stalled_s
        if not (ticket.held or prediction.release_s):
            ledger, first = self._ledger, not ticket.gives_way
            ticket.steps_s = self._next_step.first_token_s(
                self._answers_beside(ticket),
                (ledger.front if first else ledger).engine_prefill,
                ticket.cost.prefill_per_sequence,
                now,
                in_parts=ticket.in_parts,
                first=first,
            )
        if ticket.steps_s is not None:
            expected_s = self._by_steps.of(ticket.steps_s)
        else:
            expected_s = self._queued.of(ticket.predicted_s)
        return expected_s + prediction.stalled_s

    def _answers_beside(self, ticket: Ticket) -> int:
        """Answers in the steps that compute its prompt, but for those who give way to it."""
        every = self._ledger.in_engine
        return every if ticket.gives_way else every - self._ledger.give_way

    def entered(self, ticket: Ticket, now: float) -> None:
        """The first sequence of a ticket reached the engine at `now` (s)."""
        if not ticket.gives_way:
            self._next_step.entered(now - ticket.admitted_at)

    def came_true(self, ticket: Ticket, waited_s: float) -> None:
        """The first token of a ticket came so long after its admission."""
        if ticket.steps_aside:
            return
        if ticket.steps_s is not None:
            self._by_steps.add(ticket.steps_s, waited_s)
        else:
            self._queued.add(ticket.predicted_s, waited_s)
