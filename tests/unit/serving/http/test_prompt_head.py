"""The head of a prompt: equal prompts share chunks, however their bodies are written or cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forebay.policies.routing import LONGEST_TEXT, Prompt
from forebay.policies.routing.prefix_index import chunk_end
from forebay.serving.http import prompt_head, read_prompt

WORDS = ["flow", "gate", "Schütze", 'said "now"', "a\\b", "\n", "😀", "\x1e", "1", "{", "]"]


def words(size: int, seed: object) -> str:
    rng = Random(f"{seed}")
    return " ".join(rng.choice(WORDS) for _ in range(size // 5))


def conversation(turns: int, size: int = 1_500, seed: object = 0) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": words(size, "system")}]
    for turn in range(turns):
        if turn:
            messages.append({"role": "assistant", "content": words(size, (seed, turn, "a"))})
        messages.append({"role": "user", "content": words(size, (seed, turn))})
    return messages


def body(messages: Any, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **more}).encode()


TOOLS = [{"type": "function", "function": {"name": "f", "description": words(2_000, "tool")}}]


@pytest.mark.parametrize("turns", [1, 4, 20, 60])
def test_the_next_turn_begins_with_the_chunks_of_the_last(turns: int) -> None:
    before = read_prompt(body(conversation(turns)))
    after = read_prompt(body(conversation(turns + 1)))
    assert len(before.chunks) >= 3
    assert after.chunks[: len(before.chunks)] == before.chunks
    assert after.home == before.home != 0


def test_a_conversation_that_outgrows_whole_parsing_is_found_again() -> None:
    turns, last = 2, read_prompt(body(conversation(1)))
    ways = set()
    while last.size < 200_000:
        whole = body(conversation(turns))
        ways.add(len(whole) > prompt_head._WHOLE)
        now = read_prompt(whole)
        assert now.chunks[: len(last.chunks)] == last.chunks
        turns, last = turns + 4, now
    assert ways == {False, True}


@given(st.integers(1, 12), st.integers(0, 900), st.booleans())
@settings(max_examples=40)
def test_both_ways_of_reading_give_the_same(turns: int, size: int, tools_last: bool) -> None:
    more = {"tools": TOOLS} if tools_last else {}
    whole = body(conversation(turns, size), **more)
    by_parsing = read_prompt(whole)
    assert by_parsing == read_by_head(whole)


def read_by_head(whole: bytes, full_size: int | None = None) -> Prompt:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_head, "_WHOLE", 0)
        return read_prompt(whole, full_size)


@given(st.integers(0, 23_000))
@example(817)  # behind the first half of a surrogate pair
def test_a_body_that_was_cut_anywhere_gives_the_head_of_its_chunks(cut: int) -> None:
    whole = body(conversation(6), stream=True)
    read, full = read_prompt(whole[:cut], len(whole)), read_prompt(whole)
    assert full.chunks[: len(read.chunks)] == read.chunks
    # JSON's own signs and escapes are in the body and not in the text.
    assert chunk_end(len(read.chunks)) > full.size * cut / len(whole) - 1_000
    if cut > 4_000:
        assert read.size == pytest.approx(full.size, rel=0.1)


def test_one_long_text_that_is_cut_is_followed_as_far_as_it_can_be_read() -> None:
    for whole in (
        body([{"role": "user", "content": words(900_000, 1)}]),
        body([{"content": [{"type": "text", "text": words(900_000, 1)}], "role": "user"}]),
        json.dumps({"prompt": words(900_000, 1)}).encode(),
        json.dumps({"prompt": [words(900_000, 1)]}).encode(),
    ):
        full, cut = read_prompt(whole), read_prompt(whole[:250_000], len(whole))
        assert len(cut.chunks) > 80
        assert full.chunks[: len(cut.chunks)] == cut.chunks
        assert cut.size == pytest.approx(full.size, rel=0.05)


def test_the_order_of_keys_and_the_spaces_between_them_do_not_matter() -> None:
    messages = conversation(3)
    plain = read_prompt(body(messages, tools=TOOLS, max_tokens=5))
    data = {"max_tokens": 5, "tools": TOOLS, "messages": messages, "model": "m"}
    for text in (json.dumps(data, indent=2), json.dumps(data, separators=(",", ":"))):
        assert read_prompt(text.encode()).chunks == plain.chunks
        assert read_by_head(text.encode()).chunks == plain.chunks


def test_tools_come_before_messages_as_templates_render_them() -> None:
    one, other = TOOLS, [{"type": "function", "function": {"name": "g"}}]
    a, b = (read_prompt(body(conversation(3), tools=tools)) for tools in (one, other))
    assert not set(a.chunks) & set(b.chunks)
    long = [{"role": "user", "content": words(500_000, 1)}]
    a, b = (read_prompt(body(long, tools=tools)) for tools in (one, other))
    assert not set(a.chunks) & set(b.chunks)


@pytest.mark.parametrize("field", ["system", "instructions"])
def test_a_system_prompt_of_its_own_field_comes_first(field: str) -> None:
    prompts = [read_prompt(body(conversation(2), **{field: words(3_000, n)})) for n in (1, 1, 2)]
    assert prompts[0] == prompts[1]
    assert not set(prompts[0].chunks) & set(prompts[2].chunks)


def test_content_parts_and_responses_input_are_text_like_any_other() -> None:
    text = words(4_000, 1)
    parts = [{"type": "text", "text": text[:1_000]}, {"type": "text", "text": text[1_000:]}]
    plain = read_prompt(body([{"role": "user", "content": text}]))
    assert read_prompt(body([{"role": "user", "content": parts}])) == plain
    as_input = json.dumps({"input": [{"role": "user", "content": text}]}).encode()
    assert read_prompt(as_input) == plain


def test_roles_tell_prompts_apart() -> None:
    text = words(600, 1)
    two = [
        read_prompt(body([{"role": role, "content": text}, {"role": "user", "content": text * 3}]))
        for role in ("system", "assistant")
    ]
    assert two[0].chunks[1:] != two[1].chunks[1:]


def test_an_image_counts_as_its_tokens_and_not_as_its_bytes() -> None:
    def seen(data: str) -> Prompt:
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        return read_prompt(body([{"role": "user", "content": [url]}]))

    first, same, other = seen("A" * 40_000), seen("A" * 40_000), seen("B" * 40_000)
    assert first == same
    assert not set(first.chunks) & set(other.chunks)
    assert 4_000 < first.size < 5_000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}},
        {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 900_000},
        {"type": "image", "source": {"type": "base64", "data": "A" * 900_000}},
    ],
)
@pytest.mark.parametrize("cut", [5_000, 95_000, 900_000])
def test_an_image_that_is_cut_is_no_text_and_stands_for_what_was_not_read(
    part: dict[str, Any], cut: int
) -> None:
    question = {"type": "text", "text": words(2_000, 1)}
    for parts, least in (([question, part], 1_700), ([part, question], 0)):
        whole = body([{"role": "user", "content": parts}])
        size = read_prompt(whole[:cut], len(whole)).size
        assert 4_096 + least <= size < 4_096 + least + 600


def test_text_behind_an_image_is_what_a_cut_body_goes_on_with() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000}}
    parts = [image, {"type": "text", "text": words(400_000, 1)}]
    whole = body([{"role": "user", "content": parts}])
    full, cut = read_prompt(whole), read_prompt(whole[:90_000], len(whole))
    assert cut.size == pytest.approx(full.size, rel=0.1)


@pytest.mark.parametrize("nothing", [b"no JSON", b'{"metadata": "', b'{"messages":' + b"[" * 9_000])
def test_what_cannot_be_read_counts_as_no_more_than_was_looked_at(nothing: bytes) -> None:
    whole = nothing + b"x" * 4_000_000
    assert read_prompt(whole[:98_304], len(whole)).size <= 98_304
    assert read_prompt(whole).size <= prompt_head._HEAD


def test_token_ids_are_followed_too_and_a_cut_loses_only_the_tail() -> None:
    ids = [Random(1).randrange(100_000) for _ in range(200_000)]
    whole = json.dumps({"prompt": ids}).encode()
    short = read_prompt(json.dumps({"prompt": ids[:3_000]}).encode())
    full, cut = read_prompt(whole), read_prompt(whole[:100_000], len(whole))
    assert short.size == 12_000
    assert full.chunks[: len(short.chunks)] == short.chunks
    assert len(cut.chunks) >= 50
    assert full.chunks[: len(cut.chunks)] == cut.chunks


def test_of_several_prompts_the_first_is_followed_and_all_are_counted() -> None:
    a, b = words(2_000, 1), words(3_000, 2)
    one = read_prompt(json.dumps({"prompt": a}).encode())
    both = read_prompt(json.dumps({"prompt": [a, b]}).encode())
    assert both.chunks == one.chunks
    assert both.size == one.size + len(b.encode())


def test_conversations_with_one_system_prompt_have_homes_of_their_own() -> None:
    homes = {read_prompt(body(conversation(1, seed=n))).home for n in range(20)}
    assert len(homes) == 20


def test_a_session_is_a_hash_of_what_the_client_named() -> None:
    a, same, other = (read_prompt(b"{}", session=name) for name in (b"a", b"a", b"b"))
    assert a.session == same.session != other.session
    assert read_prompt(b"{}").session == 0


def test_text_is_looked_at_up_to_a_limit_and_counted_beyond_it() -> None:
    messages = [{"role": "user", "content": "a" * 900_000}]
    prompt = read_prompt(body(messages))
    assert chunk_end(len(prompt.chunks) - 1) <= LONGEST_TEXT
    assert prompt.size == pytest.approx(900_000, rel=0.01)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
FIELDS = ["messages", "prompt", "input", "system", "tools", "instructions", "model", "role"]


@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6), st.integers(0, 200))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_object_whole_or_cut_is_read(data: dict[str, Any], cut: int) -> None:
    raw = json.dumps(data).encode()
    for prompt in (read_prompt(raw), read_by_head(raw), read_prompt(raw[:cut], len(raw))):
        assert prompt.size >= 0


@given(st.binary(max_size=300))
def test_any_bytes_are_read(raw: bytes) -> None:
    assert read_prompt(raw).size >= 0


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages":' + b"[" * 100_000,
        b'{"messages":[' + b'{"content":' * 50_000,
        b'{"prompt":[' + b"9" * 100_000,
        b'{"prompt":"' + b"\\" * 100_001,
        b'{"prompt":"' + b"\\u",
        b'{"messages" ,' * 50_000,
        b'{"prompt":[99999999999999999999]}',
        b"\xff\xfe" * 1_000,
    ],
)
def test_hostile_bodies_are_read_as_far_as_they_go(raw: bytes) -> None:
    assert read_prompt(raw).size >= 0
    assert read_prompt(raw, 10 * len(raw)).size >= 0


@pytest.mark.parametrize(
    "part",
    [
        lambda text: {"type": "tool_use", "id": "t", "name": "write", "input": {"text": text}},
        lambda text: {"type": "thinking", "thinking": text},
        lambda text: {"type": "input_audio", "input_audio": {"data": text}},
    ],
)
def test_conversations_that_differ_in_what_is_rendered_are_told_apart(
    part: Callable[[str], dict[str, Any]],
) -> None:
    one, other = (
        read_prompt(body([{"role": "assistant", "content": [part(text * 3_000)]}]))
        for text in ("a", "b")
    )
    assert one.chunks
    assert one.chunks != other.chunks
    assert one.size == other.size > 2_000
