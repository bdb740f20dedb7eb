"""What one replica is: its limits, in vLLM's own terms, and its speed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forebay.engine_model.step_time import StepTime


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine on one kind of hardware.

    Attributes:
        name: what commands and reports call it.
        source: where the figures come from, in words.
        step_time: the law of its steps.
        max_num_seqs: most sequences that run at once.
        max_num_batched_tokens: most tokens computed in a step.
        max_model_len: longest prompt + answer, tokens.
        block_size: tokens in a KV block.
        kv_blocks: KV blocks as vLLM's `num_gpu_blocks` counts them: one of them stays empty.
        long_prefill_token_threshold: most tokens of one prompt in a step; 0 sets no such limit.
        forebay_scheduler: whether it is Forebay's scheduler: that limit holds only while a prompt
            that asks for it is computed, and requests may give way to prompts. In vLLM's own the
            limit always holds, and nobody gives way.
        prefix_caching: whether full blocks are kept for prompts that begin alike.
        tokens_per_step: of an answer that a step makes, in the mean: more than 1 with speculative
            decoding. The first token comes alone.
        kv_bytes_per_token: memory of one token in the KV cache, all layers and workers together.
        text_bytes_per_token: bytes of text that a token stands for, on average.
        load_s: seconds from the start of the engine's process until it takes requests.
    """

    name: str
    source: str
    step_time: StepTime
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int
    kv_blocks: int
    kv_bytes_per_token: float
    text_bytes_per_token: float
    load_s: float
    long_prefill_token_threshold: int = 0
    forebay_scheduler: bool = False
    prefix_caching: bool = True
    tokens_per_step: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what vLLM would refuse to start with.

        Raises:
            ValueError: a limit is not positive, a request of full length does not fit in the KV
                cache, or the token budget cannot give every running sequence its token.
        """
        limits = (self.max_num_seqs, self.max_model_len, self.block_size)
        if self.tokens_per_step < 1.0:
            raise ValueError(f"profile {self.name}: a step makes at least one token of an answer")
        if min(limits) < 1 or self.long_prefill_token_threshold < 0 or self.load_s < 0:
            raise ValueError(f"profile {self.name}: limits must be positive")
        if self.blocks_for(self.max_model_len) > self.usable_blocks:
            raise ValueError(
                f"profile {self.name}: {self.usable_blocks} KV blocks of {self.block_size} tokens "
                f"do not hold one request of {self.max_model_len} tokens"
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"profile {self.name}: max_num_batched_tokens {self.max_num_batched_tokens} is "
                f"less than max_num_seqs {self.max_num_seqs}"
            )

    @property
    def usable_blocks(self) -> int:
        """KV blocks that sequences can hold."""
        return self.kv_blocks - 1

    @property
    def kv_tokens(self) -> int:
        """Tokens that fit in the KV cache."""
        return self.usable_blocks * self.block_size

    def blocks_for(self, tokens: int) -> int:
        """KV blocks that hold `tokens` of one sequence."""
        return -(-tokens // self.block_size)

    def with_forebay_scheduler(self, part: int) -> EngineProfile:
        """The same engine with Forebay's scheduler; it cuts prompts at `part` tokens."""
        return replace(self, long_prefill_token_threshold=part, forebay_scheduler=True)

    def slowed(self, factor: float) -> EngineProfile:
        """The same engine with every time `factor` times as long, and saying so.

        Raises:
            ValueError: `factor` is not positive.
        """
        if factor <= 0:
            raise ValueError(f"an engine cannot be slowed by {factor}")
        return replace(
            self,
            name=f"{self.name} slowed x{factor:g}",
            source=f"{self.source} All times x {factor:g}.",
            step_time=self.step_time.slowed(factor),
            load_s=self.load_s * factor,
        )
