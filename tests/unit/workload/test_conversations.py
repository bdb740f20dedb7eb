"""Lengths of recorded conversations."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.workload import sharegpt_lengths


def said(*texts: tuple[str, str]) -> dict[str, Any]:
    return {"id": "x", "conversations": [{"from": who, "value": text} for who, text in texts]}


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("entry", "pairs"),
    [
        (said(("human", "a b c"), ("gpt", "d")), ((3, 1),)),
        (said(("human", "a"), ("gpt", "b c"), ("human", "d e"), ("gpt", "f")), ((1, 2), (2, 1))),
        (said(("system", "s s"), ("human", "a"), ("gpt", "b")), ((3, 1),)),  # counts into the first
        (said(("human", "a"), ("human", "b c"), ("gpt", "d")), ((3, 1),)),
        (said(("gpt", "hello"), ("human", "a"), ("gpt", "b")), ((1, 1),)),  # answers nothing
        (said(("human", "a"), ("gpt", "b"), ("human", "c")), ((1, 1),)),  # was not answered
        (said(("human", "a"), ("gpt", "")), ((1, 1),)),  # an answer has a token
        (
            {
                "messages": [
                    {"role": "user", "content": "a b"},
                    {"role": "assistant", "content": "c"},
                ]
            },
            ((2, 1),),
        ),
    ],
)
def test_a_turn_is_what_stands_before_an_answer(entry: Any, pairs: object) -> None:
    assert sharegpt_lengths([entry], words) == (pairs,)


def test_what_is_no_conversation_is_left_out() -> None:
    good = said(("human", "a"), ("gpt", "b"))
    odd: list[Any] = [
        None,
        3,
        "x",
        {},
        {"conversations": "text"},
        {"conversations": ["a", None, 3]},
    ]
    odd.append({"conversations": [{"from": None}, {"value": "x"}]})
    assert sharegpt_lengths([*odd, good, good], words) == (((1, 1),), ((1, 1),))


@pytest.mark.parametrize("data", [{}, "x", None, 3])
def test_another_file_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="a ShareGPT file is a list of conversations"):
        sharegpt_lengths(data, words)


@pytest.mark.parametrize("data", [[], [{}], [said(("human", "a"))], [said(("gpt", "a"))]])
def test_a_file_without_an_answer_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="no conversation holds a question with an answer"):
        sharegpt_lengths(data, words)
