"""Cache salts: who shares, who does not, and that a salt says nothing of whose it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.policies.request import cache_salt

SECRET = b"s" * 32


def test_where_all_share_there_is_no_salt() -> None:
    assert cache_salt("shared", SECRET, "shop") is None


def test_tenants_share_with_themselves_and_with_their_group() -> None:
    shop = cache_salt("tenant", SECRET, "shop")
    assert shop == cache_salt("tenant", SECRET, "shop")
    assert shop != cache_salt("tenant", SECRET, "search")
    grouped = {cache_salt("tenant", SECRET, name, "retail") for name in ("shop", "search")}
    assert len(grouped) == 1
    assert shop not in grouped


def test_a_group_with_the_name_of_a_tenant_is_not_that_tenant() -> None:
    assert cache_salt("tenant", SECRET, "a", "shop") != cache_salt("tenant", SECRET, "shop")


@given(st.text(min_size=1, max_size=20), st.binary(min_size=1, max_size=8))
@settings(max_examples=30)
def test_a_salt_is_128_bits_and_depends_on_the_secret(name: str, secret: bytes) -> None:
    salt = cache_salt("tenant", secret, name)
    assert salt is not None
    assert len(bytes.fromhex(salt)) == 16
    assert salt != cache_salt("tenant", secret + b"x", name)


def test_salts_without_a_secret_are_refused() -> None:
    with pytest.raises(ValueError, match="need a secret"):
        cache_salt("tenant", b"", "shop")
