"""What a router's promise of cached tokens is worth on one replica, learned from what it saw.

Promised and seen are compared as shares of prompt tokens, not as counts: a replica counts what all
routers sent, each router only what it sent itself, and the proxies hand requests to routers in
turn, so that every router's share is a fair sample.
"""

from __future__ import annotations

from dataclasses import dataclass

_PRIOR = 0.7  # assumed before anything was seen: refusals and evictions take some
_PRIOR_TOKENS = 8_192.0  # promised tokens whose outcome outweighs the prior; a few long prompts
_KEEP = 0.95  # weight kept at each publication: twenty of them, 10 s of traffic, are remembered


@dataclass(slots=True)
class PrefixYield:
    """Cached tokens seen for each one promised, between 0 and 1.

    Attributes:
        sent: prompt tokens that this router sent, of late.
        promised: those of them that the index promised to be cached.
        prompt: prompt tokens that the replica saw, of late, from all routers.
        cached: those of them that were really cached.
        value: share of promised tokens expected to be really cached, as of the last publication.
    """

    sent: float = 0.0
    promised: float = 0.0
    prompt: float = 0.0
    cached: float = 0.0
    value: float = _PRIOR

    def send(self, tokens: float, promised: float) -> None:
        """A prompt of `tokens` was sent, of which `promised` were thought to be cached."""
        self.sent += tokens
        self.promised += promised

    def observe(self, prompt: float, cached: float) -> None:
        """The replica published: its totals have grown by these tokens since it did before."""
        if prompt <= 0.0:
            return  # nothing came, so nothing is learned and nothing forgotten
        self.prompt += prompt
        self.cached += max(cached, 0.0)
        came = self.cached / self.prompt * self.sent
        learned = (_PRIOR * _PRIOR_TOKENS + came) / (_PRIOR_TOKENS + self.promised)
        self.value = min(max(learned, 0.0), 1.0)
        self._fade()

    def _fade(self) -> None:
        """What is older weighs less."""
        self.sent *= _KEEP
        self.promised *= _KEEP
        self.prompt *= _KEEP
        self.cached *= _KEEP
