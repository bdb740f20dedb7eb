"""What is read of a request's body."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.record import BlockSize, Pseudonyms
from forebay.record.prompt_texts import class_of, read_prompt
from forebay.record.sizes import block_names, estimated_tokens

SIZE = BlockSize(tokens=4, bytes_per_token=4.0)


def text(body: dict[str, Any]) -> str:
    prompt = read_prompt(body)
    assert prompt is not None
    return prompt.text.decode()


def message(content: object, role: str = "user") -> dict[str, object]:
    return {"role": role, "content": content}


def test_a_chat_begins_with_its_tools_and_its_system_prompt() -> None:
    body = {"messages": [message("be brief", "system"), message("hi")], "tools": [{"name": "t"}]}
    assert text(body) == '[{"name":"t"}]\nsystem\nbe brief\nuser\nhi\n'


def test_a_longer_conversation_begins_with_the_shorter_one() -> None:
    first = [message("be brief", "system"), message("hi")]
    later = [*first, message("hello", "assistant"), message("more")]
    assert text({"messages": later}).startswith(text({"messages": first}))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [message([{"type": "text", "text": "a b"}])]},
        {"input": "a b"},
        {"input": [message([{"type": "input_text", "text": "a b"}])]},
        {"messages": [message("a b")], "stream": True},
    ],
)
def test_one_text_in_the_shapes_of_every_api(body: dict[str, Any]) -> None:
    assert text(body) == "user\na b\n"


@pytest.mark.parametrize(
    "body",
    [
        {"system": "be brief", "messages": [message("hi")]},
        {"system": [{"type": "text", "text": "be brief"}], "messages": [message("hi")]},
        {"instructions": "be brief", "input": "hi"},
    ],
)
def test_a_system_prompt_in_the_shapes_of_every_api(body: dict[str, Any]) -> None:
    assert text(body) == "system\nbe brief\nuser\nhi\n"


def test_an_image_is_a_digest_and_equal_to_itself_alone() -> None:
    def image(data: str) -> dict[str, Any]:
        url = {"url": f"data:image/png;base64,{data}"}
        return {"messages": [message([{"type": "image_url", "image_url": url}])]}

    one = text(image("A" * 100_000))
    assert "AAAA" not in one
    assert len(one) < 100
    assert one == text(image("A" * 100_000)) != text(image("B" * 100_000))


def test_calls_and_their_results_are_prompt_too() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = text({"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]})
    assert '"arguments":"{}"' in said


def test_completions_take_text_ids_and_lists_of_them() -> None:
    single, ids = read_prompt({"prompt": "a b"}), read_prompt({"prompt": [5, 6, 7]})
    several = read_prompt({"prompt": ["a", "b"]})
    several_ids = read_prompt({"prompt": [[5, 6], [7]]})
    one_of_list = read_prompt({"prompt": [[5, 6]]})
    assert single is not None
    assert (single.text, single.whole) == (b"a b", True)
    assert ids is not None
    assert (ids.ids, ids.whole) == ([5, 6, 7], True)
    assert several is not None
    assert (several.text, several.whole) == (b"ab", False)
    assert several_ids is not None
    assert (several_ids.ids, several_ids.whole) == ([5, 6, 7], False)
    assert one_of_list is not None
    assert one_of_list.whole


@pytest.mark.parametrize("body", [{}, {"prompt": []}, {"prompt": 5}, {"model": "m"}])
def test_what_has_no_prompt_has_none(body: dict[str, Any]) -> None:
    assert read_prompt(body) is None


def test_a_lone_surrogate_is_a_text_like_any_other() -> None:
    assert read_prompt({"prompt": "\ud800"}) is not None


def test_a_prompt_never_shows_itself() -> None:
    prompt = read_prompt({"prompt": "secret words"})
    assert "secret" not in repr(prompt)
    assert "77" not in repr(read_prompt({"prompt": [77, 77]}))


def test_tokens_are_ids_or_bytes() -> None:
    for body, tokens in (
        ({"prompt": "x" * 40}, 10),
        ({"prompt": [1, 2, 3]}, 3),
        ({"prompt": ""}, 1),
    ):
        prompt = read_prompt(body)
        assert prompt is not None
        assert estimated_tokens(prompt, SIZE) == tokens


def test_blocks_of_text_and_of_ids() -> None:
    names = Pseudonyms()
    for body, count in (
        ({"prompt": "x" * 40}, 2),
        ({"prompt": [1] * 9}, 2),
        ({"prompt": ["x" * 40] * 2}, 0),
    ):
        prompt = read_prompt(body)
        assert prompt is not None
        assert len(block_names(prompt, SIZE, names)) == count


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [
        ("batch", {}, "batch"),
        ("Batch", {}, "batch"),
        ("interactive", {"service_tier": "flex"}, "interactive"),
        ("", {"service_tier": "flex"}, "batch"),
        ("", {"service_tier": "auto"}, ""),
        ("sk-secret", {}, ""),
    ],
)
def test_a_class_is_one_of_two_names(header: str, body: dict[str, Any], expected: str) -> None:
    assert class_of(header, body) == expected


@pytest.mark.parametrize("values", [(0, 4.0), (512, 0.0), (512, float("nan"))])
def test_impossible_blocks_are_refused(values: tuple[int, float]) -> None:
    with pytest.raises(ValueError, match="block"):
        BlockSize(*values)
