"""Whose prefixes a request may find in the cache: its cache salt.

vLLM hashes the salt into a prompt's first block, so that only prompts with the same salt share
blocks. Without it, a tenant could learn from the time to first token whether another has sent a
prompt before ("Auditing prompt caching in language model APIs", Gu et al., 2025).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

Isolation = Literal["shared", "tenant"]

_DIGITS = 32  # 128 bits: salts of different tenants never meet


def cache_salt(
    isolation: Isolation, secret: bytes, tenant: str, cache_group: str | None = None
) -> str | None:
    """The salt of a tenant's requests; None where all share.

    An HMAC, never the name: a salt may turn up in the engine's logs or in an external cache, and
    who does not know the service's secret can neither read nor guess from it whose it is. Groups
    and tenants are kept apart, also where a group has the name of a tenant outside it.

    Raises:
        ValueError: isolation is by tenant, and the secret is empty.
    """
    if isolation == "shared":
        return None
    if not secret:
        raise ValueError("cache salts need a secret")
    name = f"group\0{cache_group}" if cache_group is not None else f"tenant\0{tenant}"
    return hmac.new(secret, name.encode(), hashlib.sha256).hexdigest()[:_DIGITS]
