"""How long one step of an engine takes: a law that is linear in what the step computes."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class StepTime:
    """Coefficients of the law, each in seconds. Where they come from is the profile's to say.

    Attributes:
        base: per step: reading the weights, launching kernels, scheduling.
        prefill_token: per prompt token computed.
        decode_sequence: per sequence that computes its next token of the answer.
        context_token: per token in the KV cache that a decoding sequence attends to.
        prefill_pair: per pair of a prompt token computed and a token that it attends to.
    """

    base: float
    prefill_token: float
    decode_sequence: float
    context_token: float = 0.0
    prefill_pair: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what would let time stand still or run backwards.

        Raises:
            ValueError: a coefficient is negative, or `base` is 0.
        """
        if self.base <= 0 or any(getattr(self, field.name) < 0 for field in fields(self)):
            raise ValueError(f"step times must be positive (base) or at least 0: {self}")

    def seconds(
        self, prefill_tokens: int, prefill_pairs: int, decode_sequences: int, context_tokens: int
    ) -> float:
        """Duration of a step that computes this much."""
        return (
            self.base
            + self.prefill_token * prefill_tokens
            + self.prefill_pair * prefill_pairs
            + self.decode_sequence * decode_sequences
            + self.context_token * context_tokens
        )

    def slowed(self, factor: float) -> StepTime:
        """All times `factor` times as long."""
        return StepTime(*(factor * getattr(self, field.name) for field in fields(self)))
