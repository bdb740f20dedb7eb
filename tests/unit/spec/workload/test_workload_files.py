"""What a workload file says becomes the workload, the files that it points at included."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workload_texts import KIND, loaded, with_kind, with_line, with_stage

from forebay.spec.files import SpecError
from forebay.spec.workload import WorkloadSpec, load_workload
from forebay.workload import (
    Cancelling,
    ClosedLoop,
    Constant,
    ExponentialRamp,
    Fixed,
    Gamma,
    Histogram,
    Hold,
    Independent,
    Joint,
    LinearRamp,
    Lognormal,
    OpenLoop,
    Pause,
    Piece,
    Poisson,
    PrefixPool,
    Replay,
    Sine,
    Uniform,
)
from forebay.workload.kinds import sessions


def opened(text: str) -> OpenLoop:
    made = loaded(text).make()
    assert isinstance(made, OpenLoop)
    return made


def replayed(text: str, folder: Path) -> Replay:
    made = loaded(text, folder).make()
    assert isinstance(made, Replay)
    return made


def test_the_shortest_file_gets_every_default() -> None:
    spec = loaded(with_kind(KIND))
    assert spec.make() == OpenLoop(
        curve=opened(with_kind(KIND)).curve, law=Poisson(), kinds=[spec.requests[0].make()], seed=0
    )
    assert (spec.slo.ttft, spec.slo.tpot, spec.temperature) == (1.0, None, 0.0)
    kind = spec.requests[0].make()
    assert kind.lengths == Independent(Fixed(10), Fixed(5))
    assert (kind.name, kind.class_name, kind.tenants, kind.share) == ("requests", "", (), 1.0)
    assert (kind.prefixes, kind.conversations, kind.cancelling) == (None, None, None)


@pytest.mark.parametrize(
    ("stage", "pieces"),
    [
        ("{hold: 120/min, for: 1m}", (Hold(2, 60),)),
        ("{ramp: [1/s, 3/s], for: 60s}", (LinearRamp(1, 3, 60),)),
        ("{exponential: [1/s, 3/s], for: 60s}", (ExponentialRamp(1, 3, 60),)),
        ("{sine: {mean: 2/s, amplitude: 1/s, period: 10s}, for: 60s}", (Sine(2, 1, 10, 60),)),
        (
            "{spike: {base: 1/s, peak: 9/s, start: 20s, length: 10s}, for: 60s}",
            (Hold(1, 20), Hold(9, 10), Hold(1, 30)),
        ),
        (
            "{series: [{at: 0s, rate: 1/s}, {at: 20s, rate: 0/s}], for: 60s}",
            (Hold(1, 20), Hold(0, 40)),
        ),
    ],
)
def test_every_way_of_writing_a_stage(stage: str, pieces: tuple[Piece, ...]) -> None:
    assert opened(with_stage(stage)).curve.pieces == pieces


def test_a_series_of_rates_comes_from_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("rate,day,seconds\n1,mon,0\n2.5,mon,20\n")
    spec = loaded(with_stage("{series: rates.csv, for: 60s}"), tmp_path)
    made = spec.make()
    assert isinstance(made, OpenLoop)
    assert made.curve.pieces == (Hold(1, 20), Hold(2.5, 40))
    assert WorkloadSpec.model_validate(spec.plain()) == spec  # without the file's folder


@pytest.mark.parametrize(
    ("arrivals", "law"),
    [
        ("poisson", Poisson()),
        ("constant", Constant()),
        ("{constant: true}", Constant()),
        ("{gamma: {cv: 2}}", Gamma(2.0)),
    ],
)
def test_every_law_of_arrivals(arrivals: str, law: object) -> None:
    assert opened(with_line(f"arrivals: {arrivals}")).law == law


@pytest.mark.parametrize(
    ("written", "law"),
    [
        ("7", Fixed(7)),
        ("{fixed: 7}", Fixed(7)),
        ("{uniform: [3, 9]}", Uniform(3, 9)),
        ("{lognormal: {p50: 10, p99: 100}}", Lognormal(10, 100)),
        ("{lognormal: {p50: 10, p99: 99, min: 2, max: 50}}", Lognormal(10, 99, least=2, most=50)),
        ("{histogram: {edges: [1, 5, 9], weights: [1, 3]}}", Histogram((1, 5, 9), (1.0, 3.0))),
    ],
)
def test_every_law_of_lengths(written: str, law: object) -> None:
    (kind,) = opened(with_kind(f"{{prompt: {written}, output: 1}}")).kinds
    assert kind.lengths == Independent(law, Fixed(1))  # type: ignore[arg-type]


def test_all_that_a_kind_may_hold() -> None:
    text = with_kind(
        "{name: a, share: 2, prompt: 1, output: 2, class: batch,"
        " prefixes: {count: 3, tokens: {uniform: [5, 9]}, zipf: 0.5},"
        " conversation: {turns: {uniform: [1, 4]}, think: {p50: 2s, p99: 1m}},"
        " cancel: {share: 5%, after: 500ms},"
        " tenants: [{name: x, weight: 3}, {name: y, api_key_env: KEY}]}"
    )
    (kind,) = opened(text).kinds
    assert (kind.name, kind.share, kind.class_name) == ("a", 2.0, "batch")
    assert kind.prefixes == PrefixPool("a", 3, Uniform(5, 9), 0.5)
    assert kind.conversations is not None
    assert kind.conversations.turns == Uniform(1, 4)
    assert kind.conversations.think == Pause(2.0, 60.0)
    assert kind.cancelling == Cancelling(0.05, Pause(0.5, 0.5))
    assert kind.tenants == (("x", 3.0), ("y", 1.0))


def test_pairs_of_lengths_are_written_or_come_from_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("\ufeffprompt,output\n500,20\n80,300.0\n")
    for joint in ("[[500, 20], [80, 300]]", "pairs.csv"):
        spec = loaded(with_kind(f"{{joint: {joint}}}"), tmp_path)
        assert spec.requests[0].make().lengths == Joint(((500, 20), (80, 300)))


def test_conversations_come_from_a_sharegpt_file_and_are_counted(tmp_path: Path) -> None:
    talk = [("human", "x" * 40), ("gpt", "y" * 8), ("human", "\u00e4" * 20), ("gpt", "\ud83d")]
    said = [{"conversations": [{"from": who, "value": text} for who, text in talk]}]
    (tmp_path / "talk.json.gz").write_bytes(gzip.compress(json.dumps(said).encode()))
    kind = "{sharegpt: talk.json.gz, conversation: {turns: 1, think: 10s}}"
    made = loaded(with_kind(kind), tmp_path).requests[0].make()
    assert made.recorded == (((10, 2), (10, 1)),)  # 4 bytes a token
    (session,) = islice(sessions([made], 0), 1)
    assert [(turn.prompt_tokens, turn.output_tokens) for turn in session.turns] == [
        (10, 2),
        (22, 1),
    ]
    assert session.turns[1].think_s == pytest.approx(10.0)


def test_a_closed_loop_has_its_clients_and_its_time() -> None:
    spec = loaded(f"name: w\nclosed: {{clients: 3, for: 1m}}\nseed: 5\nrequests: [{KIND}]\n")
    kinds = [kind.make() for kind in spec.requests]
    assert spec.make() == ClosedLoop(clients=3, seconds=60.0, kinds=kinds, seed=5)


AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:00,374,44
2023-11-16 18:15:04,396,109
2023-11-16 18:15:06,9000,5
2023-11-16 18:15:16,20,6
"""


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_trace_is_replayed_as_it_was_recorded(tmp_path: Path, name: str) -> None:
    data = AZURE.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    made = replayed(f"name: w\ntrace: {{file: {name}, format: azure}}\n", tmp_path)
    assert [session.at_s for session in made.recorded] == [0, 4, 6, 16]
    assert [session.turns[0].prompt_tokens for session in made.recorded] == [374, 396, 9000, 20]
    assert made.seconds == 16


def test_a_trace_is_cut_and_rescaled_in_the_order_of_the_files_words(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(AZURE)
    keys = "file: t.csv, format: azure, start: 3s, for: 10s, context: 8192, speed: 2, copies: 3"
    made = replayed(f"name: w\ntrace: {{{keys}}}\n", tmp_path)
    assert [session.at_s for session in made.recorded] == [0.5] * 3
    assert {session.turns[0].prompt_tokens for session in made.recorded} == {396}
    assert made.seconds == 5  # 10 s of the trace, played twice as fast


def test_a_trace_lasts_no_longer_than_there_is_of_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(AZURE)
    keys = "file: t.csv, format: azure, for: 1h"
    assert replayed(f"name: w\ntrace: {{{keys}}}\n", tmp_path).seconds == 16
    assert replayed(f"name: w\ntrace: {{{keys}, start: 4s, speed: 2}}\n", tmp_path).seconds == 6


def test_a_thinned_trace_depends_on_the_seed_alone(tmp_path: Path) -> None:
    lines = [f'{{"at_s": {i}, "prompt_tokens": 5, "output_tokens": 5}}' for i in range(400)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    text = "name: w\ntrace: {{file: t.jsonl, format: forebay, thin: 25%}}\nseed: {}\n"
    one, again, other = (replayed(text.format(seed), tmp_path) for seed in (1, 1, 2))
    assert one == again
    assert [s.at_s for s in one.recorded] != [s.at_s for s in other.recorded]
    assert len(one.recorded) == pytest.approx(100, abs=35)


def test_what_a_trace_is_and_what_became_of_it_is_told_in_figures(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(AZURE)
    keys = "file: t.csv, format: azure, speed: 2, context: 8192"
    found = loaded(f"name: w\ntrace: {{{keys}}}\n", tmp_path).trace_facts()
    assert found is not None
    assert [(one.requests, one.seconds) for one in found] == [(4, 16.0), (3, 8.0)]
    assert loaded(with_kind(KIND)).trace_facts() is None


RUN = {
    "intended_s": [2.0, 1.0, 3.0, 4.0],
    "outcome": ["ok", "shed", "timeout", "ok"],
    "prompt_tokens": [10, 20, 30, 0],
    "tokens_out": [7, 0, 3, 5],
    "max_tokens": [9, 8, 9, 9],
    "class_name": ["batch", "", "", ""],
    "tenant": ["x", "", "", ""],
}


def test_a_load_tests_own_requests_are_a_trace(tmp_path: Path) -> None:
    pq.write_table(pa.table(RUN), tmp_path / "requests.parquet")
    text = "name: w\ntrace: {file: requests.parquet, format: run}\n"
    asked = [(s.at_s, s.turns[0].prompt_tokens, s.turns[0].output_tokens, s.class_name, s.tenant)
             for s in replayed(text, tmp_path).recorded]  # fmt: skip
    # What was not finished is as long as it was meant to be.
    assert asked == [(0.0, 20, 8, "", ""), (1.0, 10, 7, "batch", "x"), (2.0, 30, 9, "", "")]


def parquet(columns: dict[str, list[object]]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


MAKE_BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("azure", lambda path: path.write_text(AZURE + "x,1,2\n"), "line 6: 'x' is not a time such as"),
    ("azure", lambda path: path.write_text("a,b\n"), "line 1: has no column TIMESTAMP"),
    ("azure", lambda path: path.write_bytes(b"\xff\n"), "is not UTF-8 text"),
    ("azure", lambda path: path.write_text(AZURE.splitlines()[0]), "the trace holds no request"),
    ("mooncake", lambda path: path.write_text("{"), "line 1: is not JSON"),
    ("run", lambda path: path.write_text("{"), "is not a table of requests"),
    ("run", parquet({"intended_s": [1.0]}), "it has no outcome, prompt_tokens, tokens_out, max_to"),
    ("run", parquet({name: [] for name in RUN}), "holds no request"),
]


@pytest.mark.parametrize(("format_name", "write", "words"), MAKE_BROKEN)
def test_a_broken_trace_is_named_with_its_file_and_line(
    tmp_path: Path, format_name: str, write: Callable[[Path], object], words: str
) -> None:
    write(tmp_path / "trace")
    spec = loaded(f"name: w\ntrace: {{file: trace, format: {format_name}}}\n", tmp_path)
    with pytest.raises(ValueError, match="trace") as refused:
        spec.make()
    assert str(tmp_path / "trace") in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"no gzip",
        gzip.compress(AZURE.encode(), mtime=0)[:-12],
        gzip.compress(AZURE.encode(), mtime=0)[:20] + b"x" * 40,
    ],
)
def test_a_damaged_gz_file_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.gz").write_bytes(data)
    spec = loaded("name: w\ntrace: {file: t.gz, format: azure}\n", tmp_path)
    with pytest.raises(ValueError, match=r"t\.gz is not a whole \.gz file"):
        spec.make()


PAIRS = "{joint: data}"
TALK = "{sharegpt: data, conversation: {turns: 1, think: 1s}}"
BROKEN_FILES = [
    (PAIRS, b"", "has no columns prompt and output; name them in line 1"),
    (PAIRS, b"prompt,output\n", "holds no row"),
    (PAIRS, b"prompt,output\n1,2\n3\n", "line 3: not two numbers"),
    (PAIRS, b"prompt,output\n1,x\n", "line 2: not two numbers"),
    (PAIRS, b"prompt,output\n1,nan\n", "line 2: not two numbers"),
    (PAIRS, b"prompt,output\n1,2.5\n", "line 2: not a prompt and an output of 1 token or more"),
    (PAIRS, b"prompt,output\n0,2\n", "line 2: not a prompt and an output of 1 token or more"),
    (PAIRS, b"prompt,output\n\xff,2\n", "is not UTF-8 text"),
    (PAIRS, b"prompt,output\n" + b"1" * 140_000 + b",2\n", "is not CSV: field larger"),
    (TALK, b"{", "is not JSON"),
    (TALK, b"{}", "data: a ShareGPT file is a list of conversations"),
    (TALK, b"[]", "data: no conversation holds a question with an answer"),
    (TALK, b"\xff", "is not UTF-8 text"),
]


@pytest.mark.parametrize(("kind", "data", "words"), BROKEN_FILES)
def test_a_mistake_in_a_file_of_lengths_is_named_with_both_lines(
    tmp_path: Path, kind: str, data: bytes, words: str
) -> None:
    (tmp_path / "data").write_bytes(data)
    with pytest.raises(SpecError) as refused:
        loaded(with_kind(kind), tmp_path)
    (problem,) = refused.value.problems
    assert problem.line == 5
    assert str(tmp_path / "data") in str(problem)
    assert words in str(problem)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seconds,rates\n0,1\n", "has no columns seconds and rate"),
        ("seconds,rate\n0,fast\n", "line 2: not two numbers"),
        ("seconds,rate\n0,1\n5,-1\n", "line 3: a value is below zero"),
        ("seconds,rate\n5,1\n", "the first point of a series is at 0s"),
    ],
)
def test_a_mistake_in_a_file_of_rates_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "rates.csv").write_text(text)
    with pytest.raises(SpecError) as refused:
        loaded(with_stage("{series: rates.csv, for: 60s}"), tmp_path)
    (problem,) = refused.value.problems
    assert problem.line == 3
    assert words in str(problem)


def test_relative_names_count_from_the_workload_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/t.csv").write_text(AZURE)
    (tmp_path / "below/w.yaml").write_text("name: w\ntrace: {file: ./t.csv, format: azure}\n")
    monkeypatch.chdir(tmp_path)
    spec = load_workload("below/w.yaml")
    assert spec.trace is not None
    assert spec.trace.file == str(tmp_path / "below/t.csv")


def test_the_reports_stages_are_those_of_the_file() -> None:
    text = with_stage("{hold: 2/s, for: 60s}\n  - {ramp: [2/s, 8/s], for: 30s}")
    found = [
        (one.label, one.start_s, one.end_s, one.rate) for one in loaded(text).report_stages(90)
    ]
    assert found == [("2/s", 0.0, 60.0, 2.0), ("2 to 8/s", 60.0, 90.0, None)]
    closed = loaded(f"name: w\nclosed: {{clients: 3, for: 1m}}\nrequests: [{KIND}]\n")
    assert [one.label for one in closed.report_stages(61.0)] == ["3 clients"]


@pytest.mark.parametrize(
    ("seconds", "ends"), [(15.0, [15.0]), (60.0, [60.0]), (70.0, [60.0, 70.0])]
)
def test_of_a_run_that_was_stopped_only_the_stages_count_that_were_played(
    seconds: float, ends: list[float]
) -> None:
    text = with_stage("{hold: 2/s, for: 60s}\n  - {ramp: [2/s, 8/s], for: 30s}")
    assert [stage.end_s for stage in loaded(text).report_stages(seconds)] == ends


def test_the_seed_of_the_file_is_that_of_the_schedule() -> None:
    one, other = (opened(with_line(f"seed: {seed}")).schedule() for seed in (1, 2))
    assert one != other
    assert np.diff([session.at_s or 0.0 for session in one]).min() >= 0
