"""How many sequences an engine holds at once: as many as it has slots for, and KV cache.

vLLM's default on an H100 is 1,024 slots, and the cache holds some 64 to 90 requests of 4,000 +
1,000 tokens: slots never bind there. Who waits then waits for KV blocks, and what is shared out
between flows, kept free of batch, or given back every so many seconds is a part of what fits, not
of the slots.
"""

from __future__ import annotations

from math import inf

from forebay.policies.cost import Cost
from forebay.policies.ledger import Ledger
from forebay.policies.rates import DecayedRate

_FOOTPRINTS = 200.0  # sequences, after which half of what was learned of their size has faded


class EngineSize:
    """Learns the footprints of what is offered; reads the ledger, and changes nothing of it."""

    def __init__(self, slots: int, kv_tokens: int, ledger: Ledger) -> None:
        """Nothing was offered; see `AdmissionConfig` for the two limits."""
        self._slots = float(slots)
        self._kv_tokens = kv_tokens
        self._ledger = ledger
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._footprint = DecayedRate(_FOOTPRINTS)  # KV tokens a sequence

    def offered(self, cost: Cost) -> None:
        """A request was offered, whatever becomes of it."""
        self._footprint.add(self._ledger.kv_beside(cost), cost.sequences)

    @property
    def footprint(self) -> float:
        """KV tokens that a usual sequence takes by its end; 0 while unknown."""
        return self._footprint.rate

    @property
    def sequences(self) -> float:
        """Sequences of the usual size that there are slots and KV cache for; at least 1."""
        by_kv = self._kv_tokens / self.footprint if self.footprint else inf
        return max(min(self._slots, by_kv), 1.0)

    def __repr__(self) -> str:
        return f"<EngineSize {self.sequences:.0f} of {self._slots:.0f} sequences>"
