"""What a replica was asked for since its start, and what it tells the autoscaler."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.policies.admission import AdmissionController
from forebay.policies.request import Cost
from forebay.policies.scaling import ReplicaReading


@dataclass(slots=True)
class OfferedWork:
    """Running totals over everything offered, admitted or not.

    Attributes:
        prefill: prompt tokens to be computed.
        decode: output tokens expected.
        kv_s: tokens of KV cache x seconds for which they would be held.
        sequences: answers asked for.
    """

    prefill: float = 0.0
    decode: float = 0.0
    kv_s: float = 0.0
    sequences: int = 0

    def add(self, cost: Cost, kv_s: float) -> None:
        """A request of this cost was offered; `kv_s` as `Room.kv_s` says."""
        self.prefill += cost.prefill_tokens
        self.sequences += cost.sequences
        self.decode += cost.output_tokens
        self.kv_s += kv_s


def reading_of(
    admission: AdmissionController, offered: OfferedWork, sequence: int
) -> ReplicaReading:
    """What a replica reports, for the `sequence`-th time."""
    prefill_rate, decode_rate = admission.room.sustained
    return ReplicaReading(
        sequence=sequence,
        offered_prefill=offered.prefill,
        offered_decode=offered.decode,
        offered_kv_s=offered.kv_s,
        queued_prefill=admission.ledger.queued_prefill,
        queued_decode=0.0,
        prefill_rate=prefill_rate,
        decode_rate=decode_rate,
        kv_tokens=admission.config.kv_tokens,
        offered_sequences=offered.sequences,
    )
