"""The tenants file's models: who may use a service, with which keys, weight and limits."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator

from forebay.spec.files import Strict, refusal
from forebay.spec.tenants.tenant_keys import KEY_HASH, KEY_PREFIX, digest_of, key_digest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NAME_HINT = "write at most 63 letters, digits, '.', '_' and '-', a letter or digit first"
_HASH_HINT = "forebay keys create makes a key and writes its hash"


def _checked_name(name: str) -> str:
    """Refuses what would not do as a label, and a key that got into the place of a name."""
    if _NAME.fullmatch(name) and not name.startswith(KEY_PREFIX):
        return name
    raise refusal(f"{name!r} cannot be a name here", _NAME_HINT)


def _checked_hash(stored: str) -> str:
    """Never shows the value: it may be a key that was pasted in the place of its hash."""
    if KEY_HASH.fullmatch(stored):
        return stored
    if stored.startswith(KEY_PREFIX):
        raise refusal("is a key, not the hash of one", f"revoke that key: {_HASH_HINT}")
    raise refusal("is not sha256: and 64 hexadecimal digits in lower case", _HASH_HINT)


Name = Annotated[str, AfterValidator(_checked_name)]
KeyHash = Annotated[str, AfterValidator(_checked_hash)]


class Tenant(Strict):
    """One tenant: a team, customer or application with keys, a weight and limits of its own."""

    name: Name = Field(
        examples=["shop"],
        description="Name of the tenant, in metrics and logs: letters, digits, `.`, `_` and `-`, "
        "at most 63.",
    )
    key_hashes: list[KeyHash] = Field(
        min_length=1,
        examples=[["sha256:..."]],
        description="Hashes of its keys, each `sha256:` and 64 hexadecimal digits. Several, so "
        "that a key can be replaced without a moment in which none works.",
    )
    weight: float = Field(
        default=1.0,
        ge=0.001,
        le=1000,
        description="Share of tokens under contention, relative to the other tenants of a class: "
        "0.001 to 1000. Default 1: all alike.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        gt=0,
        examples=[200_000],
        description="Most tokens, of prompts and answers together, in any minute over the whole "
        "fleet. Default: no limit but its share.",
    )
    max_concurrency: int | None = Field(
        default=None,
        gt=0,
        examples=[32],
        description="Most requests at once over the whole fleet. Default: no limit.",
    )
    highest_class: Literal["interactive", "batch"] = Field(
        default="interactive",
        description="The most urgent class it may ask for. Default `interactive`: any class.",
    )
    cache_group: Name | None = Field(
        default=None,
        examples=["retail"],
        description="Tenants of one group share the prefix cache where `cache_isolation` is "
        "`tenant`. Default: a cache of its own, since a shared one shows by its speed what "
        "others have sent.",
    )


class TenantsSpec(Strict):
    """Everybody who may use the service. An empty list lets nobody in."""

    tenants: list[Tenant] = Field(description="The tenants. Names and hashes are unique.")

    @field_validator("tenants")
    @classmethod
    def _unique(cls, tenants: list[Tenant]) -> list[Tenant]:
        name = _first_twice(tenant.name for tenant in tenants)
        if name is not None:
            raise refusal(f"two tenants have the name {name}", "give each its own name")
        stored = _first_twice(chain.from_iterable(tenant.key_hashes for tenant in tenants))
        if stored is not None:
            owners = [tenant.name for tenant in tenants if stored in tenant.key_hashes]
            raise refusal(f"a key hash stands twice ({', '.join(owners)})", "keep one of the two")
        return tenants


class Tenants:
    """Who holds a key.

    The lookup is by the key's digest, in a dict. Its time depends on the digest of what was
    presented, and whoever measures it learns bits of digests that are stored. That is of no use:
    to come closer to a stored digest, a guesser would have to choose keys by their digests, which
    is what SHA-256 prevents.
    """

    def __init__(self, spec: TenantsSpec) -> None:
        """Everybody in the file."""
        self.all = tuple(spec.tenants)
        self._holders = {digest_of(h): tenant for tenant in self.all for h in tenant.key_hashes}

    @classmethod
    def nobody(cls) -> Self:
        """No tenants."""
        return cls(TenantsSpec(tenants=[]))

    def holder(self, key: str) -> Tenant | None:
        """The tenant that holds this key; None when nobody does."""
        return self._holders.get(key_digest(key))

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return len(self._holders)

    def __repr__(self) -> str:
        return f"<Tenants {len(self.all)}, keys {self.keys}>"


def _first_twice(values: Iterator[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
