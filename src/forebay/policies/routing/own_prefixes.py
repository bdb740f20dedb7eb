"""What a replica expects of its own prefix cache, where it has no router to be told by.

A fleet that stays at one replica needs none: there is nothing to choose. The replica then keeps the
index that a router would keep of it, and knows more: who was let in, and whose caches are kept
apart. What such promises are worth is learned from what the engine really had, as in a router.
"""

from __future__ import annotations

from dataclasses import replace

from forebay.policies.routing.prefix_index import PrefixIndex
from forebay.policies.routing.prefix_yield import PrefixYield
from forebay.policies.routing.router_policy import Prompt

_HERE = "here"


def under_salt(prompt: Prompt, salt: str | None) -> Prompt:
    """The prompt as of those who share a cache under this salt: it begins like nobody else's."""
    if salt is None or not prompt.chunks:
        return prompt
    return replace(prompt, chunks=tuple(hash((salt, chunk)) for chunk in prompt.chunks))


class OwnPrefixes:
    """The index of one replica's prefix cache, and how far it can be trusted."""

    def __init__(self) -> None:
        """Nothing is cached yet."""
        self._index = PrefixIndex()
        self._hits = PrefixYield()
        self._seen = (0.0, 0.0)

    def expected(self, prompt: Prompt, bytes_per_token: float) -> int:
        """Tokens of a prompt that are probably cached."""
        return int(self._promised(prompt) * self._hits.value / bytes_per_token)

    def let_in(self, prompt: Prompt, bytes_per_token: float) -> None:
        """The prompt goes to the engine, and will be cached."""
        promised = self._promised(prompt)
        self._hits.send(prompt.size / bytes_per_token, promised / bytes_per_token)
        self._index.record(_HERE, prompt.chunks)

    def observe(self, prompt_tokens: float, cached_tokens: float, capacity_bytes: float) -> None:
        """Learn from what the engine has seen; call it about once a second.

        Args:
            prompt_tokens: that it has started so far.
            cached_tokens: those of them that it had.
            capacity_bytes: of prompt, that its KV cache holds.
        """
        before, before_cached = self._seen
        self._hits.observe(prompt_tokens - before, cached_tokens - before_cached)
        self._seen = (prompt_tokens, cached_tokens)
        self._index.resize(_HERE, capacity_bytes)

    def _promised(self, prompt: Prompt) -> int:
        """Bytes."""
        return min(self._index.match(prompt.chunks).get(_HERE, 0), prompt.size)

    def check_integrity(self) -> None:
        """Raise AssertionError unless the index keeps its bounds."""
        self._index.check_integrity()
        assert 0.0 <= self._hits.value <= 1.0

    def __repr__(self) -> str:
        return f"<OwnPrefixes {self._index!r}, worth {self._hits.value:.0%}>"
