"""When slots and KV come free, for each decision: worked out anew only where it has changed much.

Worked out for each step of the engine, the curve of expected releases (`waiting_time.py`) would be
the largest part of what an admission costs. But a step moves it little: by itself, and by the few
answers that began or ended. So it is kept for some steps, and read as many steps further on.
"""

from __future__ import annotations

from forebay.policies.forecast.ledger import Ledger
from forebay.policies.forecast.waiting_time import Releases, expected_releases
from forebay.policies.request import OutputModel

_MOST_STEPS = 4.0  # for which a curve is kept: some of the time that a prediction errs by anyway
_MOST_TURNED = 1 / 8  # of the running answers may have begun or ended meanwhile


class ReleaseCurve:
    """The releases expected of one replica's engine. Changes nothing of the ledger."""

    def __init__(self, ledger: Ledger, outputs: OutputModel, slots: int, kv_tokens: int) -> None:
        """Know nothing yet; the engine runs `slots` sequences at once, in `kv_tokens` of cache."""
        self._ledger = ledger
        self._outputs = outputs
        self._slots = slots
        self._kv_tokens = kv_tokens
        self._whole: Releases | None = None  # as worked out last
        self._whole_at = self._turned_at = 0  # what the ledger had counted then
        self._read: Releases | None = None  # the same, from now on
        self._read_at = 0

    def now(self, answer_tokens: float, *, kv: bool = False) -> Releases:
        """What is expected from now on.

        Args:
            answer_tokens: length of a typical answer while nothing runs.
            kv: whether KV is asked for: where it is short, nothing is taken from before.
        """
        ledger = self._ledger
        if self._read is None or self._read_at != ledger.changes or not ledger.running:
            self._read = self._read_on()
            self._read_at = ledger.changes
        if self._read is None or (kv and self._read is not self._whole):
            self._read = self._whole = self._worked_out(answer_tokens)
            self._whole_at, self._turned_at = ledger.changes, ledger.turned
        return self._read

    def _read_on(self) -> Releases | None:
        """The curve that was worked out last, so much later; None where that says too little."""
        running, turned = len(self._ledger.running), self._ledger.turned - self._turned_at
        if self._whole is None or not running:
            return None
        if turned > _MOST_TURNED * min(running, self._whole.running):
            return None
        steps = (self._ledger.changes - self._whole_at - turned) / running
        if steps > min(_MOST_STEPS, 0.5 * self._whole.steps[-1]):
            return None
        return self._whole.after(steps, running)

    def _worked_out(self, answer_tokens: float) -> Releases:
        return expected_releases(
            self._ledger.running,
            self._outputs,
            self._ledger.prefixes,
            answer_tokens=answer_tokens,
            capacity=self._slots,
            # What is shared outlives them all: it comes free for nobody.
            kv_capacity=max(self._kv_tokens - self._ledger.prefixes.tokens, 1),
        )

    def __repr__(self) -> str:
        return f"<ReleaseCurve worked out at {self._whole_at}, read at {self._read_at}>"
