"""The emulated engine's tokens: no text is lost, and an answer sent back is recognised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.serving.emulated import LONGEST_BYTES
from forebay.serving.emulated.text import VOCABULARY, decode, encode, piece, render


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_every_byte_is_in_some_token(text: str) -> None:
    sizes = [(token.bit_length() + 7) // 8 for token in encode(text)]
    assert sum(sizes) == len(text.encode())
    assert max(sizes, default=0) <= LONGEST_BYTES


def test_short_words_are_one_token_each() -> None:
    assert len(encode("the water of the world")) == 5
    assert len(encode("extraordinarily")) == 2


@given(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=40))
def test_an_answer_sent_back_is_the_same_tokens(answer: list[int]) -> None:
    assert encode("".join(map(piece, answer))) == answer
    assert encode(decode(answer)) == answer


def test_a_conversations_next_turn_begins_with_the_last_one_and_its_answer() -> None:
    first = render([{"role": "user", "content": "hello there"}])
    answer = list(VOCABULARY[:9])
    said = [
        {"role": "user", "content": "hello there"},
        {"role": "assistant", "content": decode(answer)},
        {"role": "user", "content": "and then?"},
    ]
    second = render(said)
    assert second[: len(first) + len(answer)] == first + answer


def test_tools_and_parts_are_read() -> None:
    plain = render([{"role": "user", "content": "look at this"}])
    parts = render([{"role": "user", "content": [{"type": "text", "text": "look at this"}]}])
    assert parts == plain
    assert len(render([], tools=[{"name": "f"}])) > len(render([]))
