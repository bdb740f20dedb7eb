"""What a request will cost, in tokens, before it has been tokenized.

Everything that affects the estimate lives here: the bytes-per-token ratio, learned from requests
that were tokenized since, and the expected answer length (`answer_lengths.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from forebay.policies.request.answer_lengths import OutputModel

_TEMPLATE_TOKENS = 512  # that a chat template adds, tools' instructions included
_MOST_OFF = 4.0  # times the ratio, or a part of it, that one prompt is taken for
_MOST_WEIGHT = 4_000  # tokens of one prompt that count
_RATIO_KEEP = 0.98  # weight that the learned ratio keeps for every request tokenized since
_DEFAULT_BYTES_PER_TOKEN = 4.0  # English under BPE vocabularies; corrected by the first requests


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What can be read from a request's body without a tokenizer.

    Attributes:
        prompt_bytes: UTF-8 bytes of prompt text, over all prompts.
        prompt_ids: tokens given as token ids, over all prompts.
        prompts: prompts in the request (a list of prompts counts each).
        samples: answers asked for per prompt (`n`).
        max_tokens: the client's limit on each answer, in tokens; None when it set none.
        generates: False for work that produces no tokens (embeddings, scores).
        cached_tokens: tokens of the prompts that the router expects in the prefix cache.
        least: tokens that no answer ends before, as the client wants it (`min_tokens`,
            `ignore_eos`); above its limit it is the limit.
        truncated_to: tokens to which vLLM cuts each prompt that is longer; None: it cuts none.
        reads_cache: whether the engine takes of its prompts what is in the prefix cache.
    """

    prompt_bytes: int
    prompt_ids: int
    prompts: int = 1
    samples: int = 1
    max_tokens: int | None = None
    generates: bool = True
    cached_tokens: int = 0
    least: int = 0
    truncated_to: int | None = None
    reads_cache: bool = True


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request takes from a replica.

    Attributes:
        sequences: scheduler slots: prompts times samples.
        prefill_tokens: prompt tokens to be computed, over all sequences.
        output_tokens: tokens expected to be generated, over all sequences.
        output_cap: most tokens one sequence may generate.
        cached_tokens: prompt tokens expected in the prefix cache, over all sequences.
        output_least: tokens before which no sequence ends, as the client wants it.
    """

    sequences: int
    prefill_tokens: int
    output_tokens: int
    output_cap: int
    cached_tokens: int = 0
    output_least: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and expected answer together: what a tenant is charged."""
        return self.prefill_tokens + self.cached_tokens + self.output_tokens

    @property
    def most_tokens(self) -> int:
        """The same with answers as long as they may be."""
        return self.prefill_tokens + self.cached_tokens + self.output_cap * self.sequences

    @property
    def least_tokens(self) -> int:
        """The same with answers as short as they may be."""
        shortest = max(self.output_least, 1) if self.output_cap else 0
        return self.prefill_tokens + self.cached_tokens + shortest * self.sequences

    @property
    def kv_tokens(self) -> int:
        """KV footprint when every sequence has ended as expected, in tokens."""
        return self.tokens

    @property
    def cached_per_sequence(self) -> int:
        """Prompt tokens of one sequence that are expected in the prefix cache."""
        return self.cached_tokens // self.sequences

    @property
    def prefill_per_sequence(self) -> int:
        """Prompt tokens of one sequence, rounded up; at least 1."""
        return max(1, -(-self.prefill_tokens // self.sequences))


class CostModel:
    """Learns bytes per token and answer lengths; prices requests in tokens."""

    def __init__(self, context_tokens: int, default_output_tokens: int) -> None:
        """Price for a model whose prompt and answer together hold `context_tokens`."""
        self.context_tokens = context_tokens
        self.outputs = OutputModel(default_output_tokens)
        self._bytes = _DEFAULT_BYTES_PER_TOKEN
        self._tokens = 1.0

    @property
    def bytes_per_token(self) -> float:
        """Learned bytes of prompt text per token."""
        return self._bytes / self._tokens

    def price(self, shape: RequestShape) -> Cost:
        """Estimate the cost of a request of this shape."""
        sequences = max(shape.prompts * shape.samples, 1)
        prompt = shape.prompt_ids + round(shape.prompt_bytes / self.bytes_per_token)
        if shape.truncated_to is not None:
            prompt = min(prompt, shape.truncated_to * shape.prompts)
        prefill = max(prompt, shape.prompts, 1) * shape.samples
        room = max(self.context_tokens - prefill // sequences, 1)
        cap = min(shape.max_tokens, room) if shape.max_tokens is not None else room
        if not shape.generates:
            cap = 0
        least = min(shape.least, cap)
        expected = max(self.outputs.expected_total(0, cap), least) if cap else 0.0
        cached = 0
        if shape.reads_cache and shape.truncated_to is None:  # of what is cut, who knows which part
            # The last token of a prompt is always computed.
            cached = min(shape.cached_tokens * shape.samples, prefill - sequences)
        return Cost(sequences, prefill - cached, round(expected * sequences), cap, cached, least)

    def likely(self, cost: Cost) -> Cost:
        """The same with answers as long as they will probably be: what is asked of a fleet.

        A replica that has seen no answers takes them to run on, lest it promise what it cannot
        keep. As demand that would be several times what is asked.
        """
        if not cost.output_cap:
            return cost
        each = max(self.outputs.likely_total(cost.output_cap), cost.output_least)
        return replace(cost, output_tokens=round(each * cost.sequences))

    def observe_prompt(self, prompt_bytes: int, tokens: int) -> None:
        """Learn the ratio from `prompt_bytes` of text that became `tokens`.

        Everybody's prompts are priced by it, so nobody may move it far: no text has more tokens
        than bytes, beside what a template adds, and what is said to is not learned from.
        """
        if prompt_bytes <= 0 or tokens <= 0 or tokens > prompt_bytes + _TEMPLATE_TOKENS:
            return
        ratio = prompt_bytes / tokens
        ratio = min(max(ratio, self.bytes_per_token / _MOST_OFF), self.bytes_per_token * _MOST_OFF)
        weight = min(tokens, _MOST_WEIGHT)
        self._bytes = self._bytes * _RATIO_KEEP + ratio * weight
        self._tokens = self._tokens * _RATIO_KEEP + weight
