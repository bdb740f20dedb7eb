"""How many sequences an engine holds at once: as many as it has slots for, and KV cache.

vLLM's default on an H100 is 1,024 slots, and the cache holds some 64 to 90 requests of 4,000 +
1,000 tokens: slots never bind there. Who waits then waits for KV blocks, and what is shared out
between flows, kept free of batch, or given back every so many seconds is a part of what fits, not
of the slots.

What is usual is what an engine is full of: of what was let in, each counted for as long as it
stays. Long prompts with answers of a few tokens are many of those that come, and few of those that
are there. What was refused is there at no time.
"""

from __future__ import annotations

from math import inf

from forebay.policies.forecast.ledger import Ledger
from forebay.policies.request import Cost

_KEEP = 0.5 ** (1 / 200)  # weight that what was learned of footprints keeps at each sequence


class EngineSize:
    """Learns the footprints of what is let in; reads the ledger, and changes nothing of it."""

    def __init__(self, slots: int, kv_tokens: int, ledger: Ledger) -> None:
        """Nothing came; see `AdmissionConfig` for the two limits."""
        self._slots = float(slots)
        self._kv_tokens = kv_tokens
        self._ledger = ledger
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._stays = 0.0  # steps, of sequences
        self._tokens = 0.0  # of KV, times those

    def let_in(self, cost: Cost) -> None:
        """A request was let in."""
        stays = max(cost.output_tokens, cost.sequences)
        keep = _KEEP**cost.sequences
        self._stays = keep * self._stays + stays
        self._tokens = keep * self._tokens + stays * self._ledger.kv_beside(cost) / cost.sequences

    @property
    def footprint(self) -> float:
        """KV tokens that a usual sequence takes by its end; 0 while unknown."""
        return self._tokens / self._stays if self._stays else 0.0

    @property
    def sequences(self) -> float:
        """Usual sequences that there are slots and KV cache for; at least 1."""
        by_kv = self._kv_tokens / self.footprint if self.footprint else inf
        return max(min(self._slots, by_kv), 1.0)

    @property
    def free(self) -> float:
        """Those that there are slots and cache for beside what runs now."""
        running = len(self._ledger.running)
        kv_tokens = self._kv_tokens - (self._ledger.kv_tokens - self._ledger.queued_kv)
        by_kv = kv_tokens / self.footprint if self.footprint else inf
        return max(min(self._slots - running, by_kv), 0.0)

    def __repr__(self) -> str:
        return f"<EngineSize {self.sequences:.0f} of {self._slots:.0f} sequences>"
