"""Whole logs: several, packed, with lines that cannot be read."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.record import (
    Pseudonyms,
    Rules,
    UnreadableFileError,
    UnreadableLogError,
    files,
    line_reader,
    record_logs,
)
from forebay.record.files import read_lines
from forebay.record.rows import Recorded, row_line
from forebay.workload import Row, read_trace

RULES = Rules(Pseudonyms())
READ = line_reader("forebay")


def line(at: float, prompt: int = 10, output: int = 5) -> str:
    return json.dumps({"at": at, "prompt_tokens": prompt, "output_tokens": output})


def log(path: Path, lines: list[str]) -> str:
    text = "".join(f"{one}\n" for one in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, "utf-8")
    return str(path)


def rows(path: Path) -> list[Row]:
    return read_trace("forebay", (text or "" for text in read_lines(str(path))))


def test_several_logs_become_one_trace_in_order_of_time(tmp_path: Path) -> None:
    later = log(tmp_path / "b.jsonl", [line(1005.5), line(1001)])
    earlier = log(tmp_path / "a.jsonl.gz", [line(1000), "", line(1002.25, 77)])
    output = tmp_path / "trace.jsonl"
    totals = record_logs([later, earlier], READ, RULES, output)
    assert (totals.lines, totals.recorded, totals.unreadable) == (4, 4, 0)
    assert [(row.at_s, row.prompt_tokens) for row in rows(output)] == [
        (0.0, 10), (1.0, 10), (2.25, 77), (5.5, 10),
    ]  # fmt: skip
    assert (totals.since, totals.until) == (1000, 1005.5)


def test_stdin_is_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{line(1)}\n".encode())))
    assert record_logs(["-"], READ, RULES, tmp_path / "t.jsonl").recorded == 1


def test_a_name_in_gz_is_packed(tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl.gz"
    record_logs([log(tmp_path / "a", [line(1)])], READ, RULES, output)
    assert output.read_bytes()[:2] == b"\x1f\x8b"
    assert len(rows(output)) == 1


def test_a_few_lines_may_be_unreadable_and_are_told(tmp_path: Path) -> None:
    name = log(tmp_path / "a", [line(1)] * 57 + ["sekret", "", "{}", "sekret"])
    totals = record_logs([name], READ, RULES, tmp_path / "t")
    assert (totals.recorded, totals.unreadable, totals.lines) == (57, 3, 60)
    assert [(one.line, one.reason) for one in totals.first_unreadable] == [
        (58, "is not JSON"), (60, "has no at"), (61, "is not JSON"),
    ]  # fmt: skip
    assert str(totals.first_unreadable[0]) == f"{name}:58: is not JSON"
    assert "sekret" not in json.dumps(totals.as_dict())


@pytest.mark.parametrize("lines", [[line(1)] * 56 + ["x"] * 3, ["x"], []])
def test_with_more_than_that_nothing_is_written(tmp_path: Path, lines: list[str]) -> None:
    output = tmp_path / "t.jsonl"
    output.write_text("what was there before")
    with pytest.raises(UnreadableLogError) as raised:
        record_logs([log(tmp_path / "a", lines)], READ, RULES, output)
    assert raised.value.totals.lines == len(lines)
    assert output.read_text() == "what was there before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "t.jsonl"]


def test_a_request_without_tokens_is_kept_and_left_out_by_a_replay(tmp_path: Path) -> None:
    output = tmp_path / "t"
    name = log(tmp_path / "a", [line(1), line(2, output=0), line(3, prompt=0)])
    totals = record_logs([name], READ, RULES, output)
    assert (totals.recorded, totals.unanswered) == (3, 2)
    assert len(output.read_text().splitlines()) == 3
    assert len(rows(output)) == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"not gzip at all"])
def test_a_damaged_packing_is_said(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    name = log(tmp_path / "a.gz", [line(k) for k in range(5000)])
    path = Path(name)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UnreadableFileError, match="not a whole gzip file"):
        record_logs([name], READ, RULES, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_line_longer_than_any_request_is_one_unreadable_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LONGEST_LINE", 100)
    name = log(tmp_path / "a", [line(1)] * 30 + ["x" * 1234] + [line(2)] * 30)
    totals = record_logs([name], READ, RULES, tmp_path / "t")
    assert (totals.recorded, totals.unreadable) == (60, 1)
    assert totals.first_unreadable[0].line == 31


def test_bytes_that_are_no_text_are_one_unreadable_line(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbf" + f"{line(1)}\n".encode() * 30 + b"\xff\xfe\n")
    assert record_logs([str(path)], READ, RULES, tmp_path / "t").unreadable == 1


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    names = [log(tmp_path / name, [line(k) for k in range(5000)]) for name in ("a", "b.gz")]
    places: list[tuple[int, int]] = []
    record_logs(names, READ, RULES, tmp_path / "t", lambda *place: places.append(place))
    assert places == sorted(places)
    assert [lines for _, lines in places] == [1999, 3999, 6999, 8999]
    assert places[-1][0] <= sum(Path(name).stat().st_size for name in names)


words = st.text(min_size=1, max_size=20)
recorded_rows = st.builds(
    Recorded,
    row=st.builds(
        Row,
        at_s=st.integers(0, 10**9).map(lambda us: us / 1e6),
        prompt_tokens=st.integers(1, 10**6),
        output_tokens=st.integers(1, 10**6),
        blocks=st.lists(words, max_size=5).map(tuple),
        block_tokens=st.integers(1, 4096),
        class_name=st.just("") | words,
        tenant=st.just("") | words,
    ),
    estimated=st.lists(st.sampled_from(["prompt_tokens", "output_tokens"]), unique=True),
    outcome=st.sampled_from(["ok", "cut", "cancelled"]),
)


@settings(deadline=None, max_examples=200)
@given(recorded_rows)
def test_a_row_is_read_back_as_it_was_recorded(recorded: Recorded) -> None:
    text = row_line(recorded)
    assert text.count("\n") == 1
    (row,) = read_trace("forebay", [text])
    wanted = recorded.row
    assert row.at_s == 0.0
    for name in ("prompt_tokens", "output_tokens", "blocks", "class_name", "tenant"):
        assert getattr(row, name) == getattr(wanted, name)
    if wanted.blocks:
        assert row.block_tokens == wanted.block_tokens
    assert json.loads(text)["at_s"] == pytest.approx(wanted.at_s, abs=1e-6)
