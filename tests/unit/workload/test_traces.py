"""Every trace format is read exactly, and a broken line is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import FORMATS, Row, TraceError, read_trace, trace_sessions
from forebay.workload.prompts import shared_tokens, total_tokens

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 23:59:59.9999999,7,1
2023-11-17 00:00:00,8,2
"""
AZURE_2024 = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 02:00:01.500000+02:00,10,6
2024-05-10T00:00:02Z,11,7
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,230.0,1317,API log
118.5,ChatGPT,417,0,417,API log
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 1100, "output_length": 20, "hash_ids": [0, 1, 2]}
{"timestamp": 3052, "input_length": 512, "output_length": 3, "hash_ids": [0]}

{"timestamp": 6001.5, "input_length": 40, "output_length": 9}
"""
FOREBAY = """\
{"at_s": 10.5, "prompt_tokens": 70, "output_tokens": 9, "class": "batch", "tenant": "x"}
{"at_s": 10.0, "prompt_tokens": 50, "output_tokens": 4, "blocks": ["s", 7], "block_tokens": 32}
{"at_s": 11, "prompt_tokens": 1, "output_tokens": 1, "class": null, "blocks": null}
"""


def row(at_s: float, prompt: int, output: int, *blocks: str, size: int = 512) -> Row:
    return Row(
        at_s=at_s, prompt_tokens=prompt, output_tokens=output, blocks=blocks, block_tokens=size
    )


def read(format_name: str, text: str) -> list[Row]:
    return read_trace(format_name, text.splitlines(keepends=True))


def test_azures_times_are_kept_to_their_last_digit() -> None:
    rows = read("azure", AZURE)
    assert [(one.prompt_tokens, one.output_tokens) for one in rows] == [
        (374, 44), (396, 109), (7, 1), (8, 2)
    ]  # fmt: skip
    # 100 ns is what the trace holds; seconds since 1970 in a double would keep 240 ns.
    expected = [0.0, 4.314579, 20653.3194099, 20653.31941]
    assert [one.at_s for one in rows] == pytest.approx(expected, abs=1e-10)


def test_azures_later_trace_has_time_zones() -> None:
    rows = read("azure", AZURE_2024)
    assert [one.at_s for one in rows] == pytest.approx([0.0, 1.49007, 1.99007], abs=1e-10)


def test_burstgpt_is_read_without_what_was_not_answered() -> None:
    assert read("burstgpt", BURSTGPT) == [row(0, 472, 18), row(40, 1087, 230)]


def test_mooncakes_milliseconds_and_blocks_are_read() -> None:
    assert read("mooncake", MOONCAKE) == [
        row(0, 1100, 20, "0", "1", "2"),
        row(3.052, 512, 3, "0"),
        row(6.0015, 40, 9),
    ]


def test_our_own_format_holds_all_that_a_row_does() -> None:
    assert read("forebay", FOREBAY) == [
        row(0, 50, 4, "s", "7", size=32),
        Row(at_s=0.5, prompt_tokens=70, output_tokens=9, class_name="batch", tenant="x"),
        row(1, 1, 1),
    ]


@given(
    st.lists(
        st.builds(
            Row,
            at_s=st.floats(0, 1e6),
            prompt_tokens=st.integers(1, 10**6),
            output_tokens=st.integers(1, 10**6),
            blocks=st.lists(st.text(max_size=3), max_size=3).map(tuple),
            block_tokens=st.integers(1, 999),
            class_name=st.text(max_size=3),
            tenant=st.text(max_size=3),
        ),
        min_size=1,
    )
)
def test_what_is_written_as_our_own_format_is_read_back(rows: list[Row]) -> None:
    lines = [
        json.dumps(
            {
                "at_s": one.at_s,
                "prompt_tokens": one.prompt_tokens,
                "output_tokens": one.output_tokens,
                "blocks": one.blocks,
                "block_tokens": one.block_tokens,
                "class": one.class_name,
                "tenant": one.tenant,
            }
        )
        for one in rows
    ]
    ordered = sorted(rows, key=lambda one: one.at_s)
    found = read_trace("forebay", lines)
    assert [one.at_s for one in found] == [one.at_s - ordered[0].at_s for one in ordered]
    for one, other in zip(found, ordered, strict=True):
        assert (one.prompt_tokens, one.output_tokens) == (other.prompt_tokens, other.output_tokens)
        assert (one.blocks, one.block_tokens) == (other.blocks, other.block_tokens)
        assert (one.class_name, one.tenant) == (other.class_name, other.tenant)


def mooncake(**changes: object) -> str:
    values = {"timestamp": 5, "input_length": 100, "output_length": 2, "hash_ids": [1]}
    return MOONCAKE + json.dumps({k: v for k, v in (values | changes).items() if v != "gone"})


BROKEN = [
    ("azure", "ContextTokens,GeneratedTokens\n1,2\n", 1, "has no column TIMESTAMP"),
    ("azure", "", 1, "has no column TIMESTAMP, ContextTokens, GeneratedTokens"),
    ("azure", AZURE + "yesterday,1,2\n", 6, "'yesterday' is not a time such as 2023-11-16 18"),
    ("azure", AZURE + "2023-13-16 18:15:46.68,1,2\n", 6, "month must be in 1..12"),
    ("azure", AZURE + "2023-11-16 18:15:46,1\n", 6, "has no GeneratedTokens"),
    ("azure", AZURE + "2023-11-16 18:15:46,x,2\n", 6, "ContextTokens is 'x', not a number"),
    ("azure", AZURE + "2023-11-16 18:15:46,1.5,2\n", 6, "is '1.5', not a whole number of tokens"),
    ("azure", AZURE + "2023-11-16 18:15:46,-1,2\n", 6, "is '-1', not a whole number of tokens"),
    ("azure", AZURE + '2023-11-16 18:15:46,"1\n', 6, "has no GeneratedTokens"),
    ("azure", AZURE + f"{'1' * 140_000},1,2\n", 6, "is not CSV: field larger than field limit"),
    ("burstgpt", "Timestamp,Request tokens\n", 1, "has no column Response tokens"),
    ("burstgpt", BURSTGPT + "nan,m,1,2,3,l\n", 5, "Timestamp is 'nan', not a number"),
    ("burstgpt", BURSTGPT + "inf,m,1,2,3,l\n", 5, "Timestamp is 'inf', not a number"),
    ("mooncake", MOONCAKE + "{", 5, "is not JSON"),
    ("mooncake", MOONCAKE + "[" * 100_000, 5, "is not JSON"),
    ("mooncake", MOONCAKE + "[1]", 5, "is not a JSON object"),
    ("mooncake", mooncake(timestamp="gone"), 5, "has no timestamp"),
    ("mooncake", mooncake(timestamp=None), 5, "has no timestamp"),
    ("mooncake", mooncake(input_length=True), 5, "input_length is True, not a number"),
    ("mooncake", mooncake(input_length=10**400), 5, "not a number"),
    ("mooncake", mooncake(input_length=float("inf")), 5, "input_length is inf, not a number"),
    ("mooncake", mooncake(output_length=[3]), 5, "output_length is [3], not a number"),
    ("mooncake", mooncake(hash_ids=7), 5, "hash_ids is 7, not a list"),
    ("forebay", FOREBAY + '{"at_s": 1}', 4, "has no prompt_tokens"),
    (
        "forebay",
        '{"at_s": 1, "prompt_tokens": 5, "output_tokens": 5, "block_tokens": 0}',
        1,
        "block_tokens is 0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("format_name", "text", "line", "words"), BROKEN)
def test_a_broken_line_is_named(format_name: str, text: str, line: int, words: str) -> None:
    with pytest.raises(TraceError) as refused:
        read(format_name, text)
    assert refused.value.line == line
    assert str(refused.value).startswith(f"line {line}: ")
    assert words in str(refused.value)


def test_an_unknown_format_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="unknown trace format 'csv'") as refused:
        read_trace("csv", [])
    assert all(name in str(refused.value) for name in FORMATS)


@pytest.mark.parametrize("text", ["", '{"at_s": 1, "prompt_tokens": 5, "output_tokens": 0}'])
def test_a_trace_of_no_request_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the trace holds no request"):
        read("forebay", text)


def test_sessions_ask_what_was_recorded() -> None:
    sessions = trace_sessions(read("forebay", FOREBAY))
    assert [session.number for session in sessions] == [0, 1, 2]
    assert [session.at_s for session in sessions] == [0, 0.5, 1]
    assert [session.class_name for session in sessions] == ["", "batch", ""]
    assert [session.tenant for session in sessions] == ["", "x", ""]
    turns = [session.turns for session in sessions]
    assert [(one.prompt_tokens, one.output_tokens) for (one,) in turns] == [
        (50, 4),
        (70, 9),
        (1, 1),
    ]


def test_equal_blocks_stand_for_equal_tokens_and_the_last_is_cut_short() -> None:
    first, second, third = (
        session.turns[0].segments for session in trace_sessions(read("mooncake", MOONCAKE))
    )
    assert [segment.tokens for segment in first] == [512, 512, 76]
    assert all(segment.shared for segment in first)
    assert shared_tokens(first, second) == 512
    assert [segment.shared for segment in third] == [False]


@given(st.integers(1, 3000), st.lists(st.sampled_from("abcd"), max_size=8), st.integers(1, 999))
def test_segments_hold_the_prompt_whatever_its_blocks(
    prompt: int, blocks: list[str], size: int
) -> None:
    one, other = trace_sessions([row(0, prompt, 1, *blocks, size=size)] * 2)
    segments = one.turns[0].segments
    assert total_tokens(segments) == one.turns[0].prompt_tokens == prompt
    covered = min(prompt, size * len(blocks))
    assert shared_tokens(segments, other.turns[0].segments) == covered
