"""Prompts as they are sent: exact, unlike each other where they should be, and the same again."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.load.plan import Spoken, plain_ids
from forebay.load.plan.content import id_content, letter_content, word_content
from forebay.load.plan.request_bodies import Form, body_maker
from forebay.workload import Request, Segment

FORM = Form(model='a "model"')
WORDS = ("river", "stone", "bank")


def ids(text: bytes) -> list[int]:
    return [int(part) for part in text.split(b",")]


@given(st.integers(1, 300), st.text(max_size=5), st.booleans())
def test_a_segment_has_its_length_in_known_ids(length: int, name: str, shared: bool) -> None:
    found = ids(id_content("salt", [7, 8, 9]).write(Segment(name, length, shared)))
    assert len(found) == length
    assert set(found) <= {7, 8, 9}


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_shorter_segment_begins_a_longer_one_of_its_name(one: int, other: int) -> None:
    content = id_content("salt")
    long, short = (
        ids(content.write(Segment("n", size))) for size in (max(one, other), min(one, other))
    )
    assert long[: len(short)] == short


def test_content_follows_salt_and_name_alone() -> None:
    segment, other = Segment("n", 50), Segment("m", 50)
    content = id_content("salt")
    assert content.write(segment) == id_content("salt").write(segment)
    assert content.write(segment) != content.write(other)
    assert content.write(segment) != id_content("pepper").write(segment)


def test_no_prompt_begins_like_another() -> None:
    content = id_content("salt")
    begun = {tuple(ids(content.write(Segment(f"{i}", 8)))) for i in range(5000)}
    assert len(begun) == 5000


def test_words_are_joined_by_one_space() -> None:
    text = word_content("s", WORDS).join([Segment("a", 3), Segment("b", 2)]).decode()
    assert len(text.split(" ")) == 5
    assert set(text.split(" ")) <= set(WORDS)


@pytest.mark.parametrize("size", [2.0, 2.5, 4.0, 6.3])
def test_letters_take_the_bytes_asked_for(size: float) -> None:
    text = letter_content("s", size).write(Segment("n", 4000))
    assert len(text) == pytest.approx(4000 * size, rel=0.02)


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens or more"):
        id_content("s", [5])
    with pytest.raises(ValueError, match="2 bytes or more"):
        letter_content("s", 1.0)


def conversation(*sizes: int) -> list[Request]:
    turns, history = [], 0
    for turn, size in enumerate(sizes):
        request = Request(
            segments=(Segment(f"t{turn}", size),), output_tokens=4, history_tokens=history
        )
        turns.append(request)
        history = request.prompt_tokens + 4
    return turns


def test_completions_carry_exactly_the_tokens_of_each_turn() -> None:
    maker, spoken = body_maker("completions", FORM, id_content("s")), Spoken()
    prompts = []
    for request in conversation(5, 3, 2):
        body = json.loads(maker.ask(request, spoken))
        prompts.append(body["prompt"])
        assert len(body["prompt"]) == request.prompt_tokens
        assert (body["model"], body["max_tokens"]) == ('a "model"', 4)
        maker.answered(request, spoken, "whatever")
    for before, after in pairwise(prompts):
        assert after[: len(before)] == before


def test_chat_repeats_what_was_said() -> None:
    maker, spoken = body_maker("chat", FORM, word_content("s", WORDS)), Spoken()
    first, second = conversation(5, 3)
    asked = json.loads(maker.ask(first, spoken))["messages"]
    maker.answered(first, spoken, 'so "be" it\n')
    again = json.loads(maker.ask(second, spoken))["messages"]
    assert again[:1] == asked
    assert again[1] == {"role": "assistant", "content": 'so "be" it\n'}
    assert len(again[2]["content"].split()) == 3


@pytest.mark.parametrize(("tokens", "words"), [(30, 20), (11, 1), (10, 1), (1, 1)])
def test_a_chat_template_is_counted_into_the_length(tokens: int, words: int) -> None:
    form = Form(model="m", first_overhead=10)
    maker = body_maker("chat", form, word_content("s", WORDS))
    (request,) = conversation(tokens)
    (message,) = json.loads(maker.ask(request, Spoken()))["messages"]
    assert len(message["content"].split()) == words


def test_the_template_takes_from_the_own_part_before_the_shared() -> None:
    form = Form(model="m", first_overhead=4)
    maker = body_maker("chat", form, word_content("s", WORDS))
    shared, own = Segment("pool", 6, shared=True), Segment("own", 3)
    text = word_content("s", WORDS).write(shared).decode()
    (message,) = json.loads(maker.ask(Request(segments=(shared, own), output_tokens=1), Spoken()))[
        "messages"
    ]
    assert text.startswith(message["content"])
    assert len(message["content"].split()) == 5


@pytest.mark.parametrize(
    ("form", "there", "absent"),
    [
        (Form(model="m"), {"ignore_eos", "stream", "stream_options"}, set()),
        (Form(model="m", exact_output=False), {"stream"}, {"ignore_eos"}),
        (Form(model="m", stream=False), {"ignore_eos"}, {"stream", "stream_options"}),
    ],
)
def test_bodies_hold_what_the_endpoint_takes(form: Form, there: set[str], absent: set[str]) -> None:
    maker = body_maker("completions", form, id_content("s"))
    keys = set(json.loads(maker.ask(conversation(3)[0], Spoken())))
    assert there <= keys
    assert not absent & keys


def test_plain_ids_leave_special_tokens_out(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    content = {"model": {"vocab": {"<s>": 0, "a": 2, "b": 1}}, "added_tokens": [{"id": 0}]}
    file.write_text(json.dumps(content))
    assert plain_ids(file) == [1, 2]


@pytest.mark.parametrize("content", ["", "[]", '{"model": 3}'])
def test_what_is_no_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"not a tokenizer\.json"):
        plain_ids(file)
