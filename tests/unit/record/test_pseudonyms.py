"""Names that tell equal from unequal, and nothing else."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.record import Pseudonyms

texts = st.binary(max_size=200)


@settings(deadline=None)
@given(texts, texts, texts)
def test_equal_beginnings_have_equal_names_and_no_others(
    common: bytes, one: bytes, other: bytes
) -> None:
    names = Pseudonyms()
    a, b = names.blocks(common + one, 8), names.blocks(common + other, 8)
    for k, (mine, theirs) in enumerate(zip(a, b, strict=False), 1):
        assert (mine == theirs) == ((common + one)[: 8 * k] == (common + other)[: 8 * k])


@settings(deadline=None)
@given(texts, st.integers(1, 40))
def test_only_whole_blocks_are_named_and_each_by_all_before_it(text: bytes, size: int) -> None:
    names = Pseudonyms().blocks(text, size)
    assert len(names) == len(text) // size
    assert len(set(names)) == len(names)


def test_a_block_behind_another_beginning_has_another_name() -> None:
    names = Pseudonyms()
    assert names.blocks(b"aaaabbbb", 4)[1] != names.blocks(b"ccccbbbb", 4)[1]


def test_nothing_is_the_same_in_another_recording() -> None:
    one, other = Pseudonyms(), Pseudonyms()
    assert one.tenant(b"key") != other.tenant(b"key")
    assert one.blocks(b"x" * 64, 16) != other.blocks(b"x" * 64, 16)


def test_a_guess_cannot_be_checked_without_the_secret() -> None:
    text = b"You are a helpful assistant."
    names = Pseudonyms()
    (name,) = names.blocks(text, len(text))
    for known in (b"", b"text\0", b"forebay"):
        assert name not in hmac.new(known, b"text\0" + text, hashlib.sha256).hexdigest()
    assert name not in hashlib.sha256(text).hexdigest()


def test_a_key_a_text_and_ids_of_the_same_bytes_differ() -> None:
    names = Pseudonyms(b"s" * 32)
    assert names.blocks(b"abcd", 4)[0] != names.id_blocks([1684234849], 1)[0]
    assert names.blocks(b"abcd", 4)[0][:12] not in names.tenant(b"abcd")


def test_ids_are_cut_by_number() -> None:
    names = Pseudonyms()
    ids = list(range(10))
    assert len(names.id_blocks(ids, 4)) == 2
    assert names.id_blocks(ids, 4)[:1] == names.id_blocks([0, 1, 2, 3, 9, 9, 9, 9], 4)[:1]
    with pytest.raises(OverflowError):
        names.id_blocks([-1], 1)


def test_it_does_not_show_its_secret() -> None:
    assert "s3cret" not in repr(Pseudonyms(b"s3cret"))
