"""Every mistake in a workload file is named with its line, its field and a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from workload_texts import KIND, STAGE, loaded, with_kind, with_line, with_stage

from forebay.spec.files import Problem, SpecError
from forebay.spec.workload import built_in_names, built_in_text, load_workload

NO_STAGE = f"name: w\nrequests:\n  - {KIND}\n"


def problems(text: str, folder: Path | None = None) -> list[Problem]:
    with pytest.raises(SpecError) as refused:
        loaded(text, folder)
    return refused.value.problems


STAGES = [
    ("{hold: 20, for: 60s}", "stages.0.hold", "20 has no unit; write 20/s"),
    ("{hold: 20/s, for: 60}", "stages.0.for", "60 has no unit; write 60s or 60000ms"),
    ("{hold: -2/s, for: 60s}", "stages.0.hold", "-2/s is below zero; write a rate such as 20/s"),
    ("{hold: fast, for: 60s}", "stages.0.hold", "'fast' is not a rate; write a rate such as 20/s"),
    ("{hold: 2/s, for: 0s}", "stages.0.for", "0 must be above 0"),
    ("{hold: 2/s}", "stages.0.for", "is missing; it has no default"),
    ("{for: 60s}", "stages.0", "takes one of hold, ramp, exponential, sine, spike, series; write"),
    ("{hold: 2/s, ramp: [1/s, 2/s], for: 60s}", "stages.0",
     "holds hold and ramp, but takes one; keep one of them"),
    ("{hod: 2/s, for: 60s}", "stages.0.hod", "unknown key; did you mean hold?"),
    ("{hold: 2/s, for: 60s, duration: 3s}", "stages.0.duration", "unknown key; known: for, hold"),
    ("2/s", "stages.0", "'2/s' is not a mapping of keys to values"),
    ("{ramp: 1/s, for: 60s}", "stages.0.ramp", "'1/s' is not a list"),
    ("{ramp: [1/s], for: 60s}", "stages.0.ramp", "holds 1 of at least 2 values"),
    ("{ramp: [1/s, 2/s, 3/s], for: 60s}", "stages.0.ramp", "holds 3 of at most 2 values"),
    ("{ramp: [1/s, 2], for: 60s}", "stages.0.ramp.1", "2 has no unit; write 2/s"),
    ("{exponential: [0/s, 2/s], for: 60s}", "stages.0", "goes between rates above 0"),
    ("{sine: {mean: 2/s, amplitude: 3/s, period: 9s}, for: 60s}", "stages.0", "within its mean"),
    ("{sine: {mean: 0/s, amplitude: 0/s, period: 9s}, for: 60s}", "stages.0.sine.mean",
     "0 must be above 0"),
    ("{sine: {mean: 2/s, amplitude: 1/s}, for: 60s}", "stages.0.sine.period", "is missing"),
    ("{sine: {mean: 2/s, amplitude: 1/s, period: 9s, phas: 1}, for: 60s}", "stages.0.sine.phas",
     "unknown key; known: mean, amplitude, period"),
    ("{spike: {base: 1/s, peak: 9/s, start: 50s, length: 20s}, for: 60s}", "stages.0",
     "the spike must lie inside its stage"),
    ("{series: [{at: 1s, rate: 1/s}], for: 60s}", "stages.0", "first point of a series is at 0s"),
    ("{series: [{at: 0s, rate: 1/s}, {at: 60s, rate: 2/s}], for: 60s}", "stages.0",
     "lies before the end of its stage"),
    ("{series: [{at: 0s, rate: 1/s}, {at: 9s, rate: 2/s}, {at: 5s, rate: 2/s}], for: 60s}",
     "stages.0", "the times of a series must rise"),
    ("{series: [], for: 60s}", "stages.0.series", "holds 0 of at least 1 values"),
    ("{series: [{at: 0s, rate: 1/s, rte: 1/s}], for: 60s}", "stages.0.series.0.rte",
     "did you mean rate?"),
    ("{series: no.csv, for: 60s}", "stages.0.series", "there is no file"),
    ("{hold: 2000000/s, for: 1000s}", "stages", "ask for 2e+09 sessions in all; a run holds 1e+08"),
]  # fmt: skip
KINDS = [
    ("{prompt: 10}", "requests.0", "has no output; write output: and how many tokens"),
    ("{output: 10}", "requests.0", "has no prompt; write prompt: and how many tokens"),
    ("{name: a}", "requests.0",
     "has no law of lengths; write prompt and output, or joint, or sharegpt"),
    ("{prompt: 10, output: 5, joint: [[1, 2]]}", "requests.0", "has more than one law of lengths"),
    ("{prompt: 0, output: 5}", "requests.0.prompt", "lengths are 1 token or more"),
    ("{prompt: '10', output: 5}", "requests.0.prompt",
     "the single value '10' is not a law of lengths; write a whole number, or one of fixed, unif"),
    ("{prompt: 1.5, output: 5}", "requests.0.prompt", "1.5 is not a law of lengths"),
    ("{prompt: true, output: 5}", "requests.0.prompt", "true is not a law of lengths"),
    ("{prompt: [5], output: 5}", "requests.0.prompt", "a list is not a law of lengths"),
    ("{prompt: {}, output: 5}", "requests.0.prompt", "takes one of fixed, uniform, lognormal,"),
    ("{prompt: {fixed: 3, uniform: [1, 2]}, output: 5}", "requests.0.prompt",
     "holds fixed and uniform, but takes one"),
    ("{prompt: {lognormal: {p50: 100, p99: 50}}, output: 5}", "requests.0.prompt",
     "a lognormal needs 0 < p50 <= p99, not 100.0 and 50.0"),
    ("{prompt: {lognormal: {p50: 100}}, output: 5}", "requests.0.prompt.lognormal.p99",
     "is missing"),
    ("{prompt: {lognorm: {p50: 1, p99: 2}}, output: 5}", "requests.0.prompt.lognorm",
     "unknown key; did you mean lognormal?"),
    ("{prompt: {lognormal: {p50: 1, p99: 2, mx: 3}}, output: 5}", "requests.0.prompt.lognormal.mx",
     "unknown key; did you mean max?"),
    ("{prompt: {uniform: [5, 2]}, output: 5}", "requests.0.prompt", "and rise, not [5, 2]"),
    ("{prompt: {uniform: [5]}, output: 5}", "requests.0.prompt.uniform", "holds 1 of at least 2"),
    ("{prompt: {histogram: {edges: [1, 5], weights: [1, 2]}}, output: 5}", "requests.0.prompt",
     "a histogram has one edge more than weights"),
    ("{prompt: {histogram: {edges: [1, 5], weights: [0]}}, output: 5}", "requests.0.prompt",
     "weights are 0 or more, and not all 0"),
    ("{prompt: {histogram: {edges: [5], weights: [1]}}, output: 5}",
     "requests.0.prompt.histogram.edges", "holds 1 of at least 2 values"),
    ("{joint: []}", "requests.0.joint", "an empty list is neither pairs of lengths nor a file"),
    ("{joint: 5}", "requests.0.joint", "5 is neither pairs of lengths nor a file; write pairs"),
    ("{joint: [[1, 2], [3]]}", "requests.0.joint",
     "pair 2, [3], is not a prompt and an output of 1 token or more; write pairs such as [[500"),
    ("{joint: [[1, 0]]}", "requests.0.joint", "pair 1, [1, 0], is not a prompt and an output"),
    ("{joint: [[1, true]]}", "requests.0.joint", "pair 1, [1, True], is not"),
    ("{joint: no.csv}", "requests.0.joint", "there is no file"),
    ("{sharegpt: no.json, conversation: {turns: 1, think: 1s}}", "requests.0.sharegpt",
     "there is no file"),
    ("{prompt: 1, output: 1, prefixes: {count: 0, tokens: 5}}", "requests.0.prefixes.count",
     "0 must be at least 1"),
    ("{prompt: 1, output: 1, prefixes: {count: 2, tokens: 5, zipf: -1}}",
     "requests.0.prefixes.zipf", "-1 must be at least 0"),
    ("{prompt: 1, output: 1, prefixes: {count: 2}}", "requests.0.prefixes.tokens", "is missing"),
    ("{prompt: 1, output: 1, prefixes: {count: 2, tokens: }}", "requests.0.prefixes.tokens",
     "an empty value is not a law of lengths"),
    ("{prompt: 1, output: 1, prefixs: {count: 2, tokens: 5}}", "requests.0.prefixs",
     "unknown key; did you mean prefixes?"),
    ("{prompt: 1, output: 1, conversation: {turns: 2}}", "requests.0.conversation.think",
     "is missing"),
    ("{prompt: 1, output: 1, conversation: {turns: 2, think: 5}}",
     "requests.0.conversation.think.p50", "5 has no unit; write 5s or 5000ms"),
    ("{prompt: 1, output: 1, conversation: {turns: 2, think: {p50: 5s, p99: 2s}}}",
     "requests.0.conversation.think", "its p99 lies below its p50; write a p99 of at least p50"),
    ("{prompt: 1, output: 1, cancel: {share: 30, after: 1s}}", "requests.0.cancel.share",
     "'30' is not a share between 0 and 100 %; write a share such as 5% or 0.05"),
    ("{prompt: 1, output: 1, cancel: {share: 3%}}", "requests.0.cancel.after", "is missing"),
    ("{prompt: 1, output: 1, share: 0}", "requests.0.share", "0 must be above 0"),
    ("{prompt: 1, output: 1, class: 批量}", "requests.0.class", "printable ASCII"),
    ("{prompt: 1, output: 1, class: 3}", "requests.0.class", "3 is not text (quotes make it text)"),
    ("{prompt: 1, output: 1, clas: x}", "requests.0.clas", "unknown key; did you mean class?"),
    ("{prompt: 1, output: 1, tenants: [{name: a}, {name: a}]}", "requests.0.tenants",
     "two tenants have one name; give each its own name"),
    ("{prompt: 1, output: 1, tenants: [{name: ''}]}", "requests.0.tenants.0.name",
     "'' is not a name"),
    ("{prompt: 1, output: 1, tenants: [{name: a, nam: b}]}", "requests.0.tenants.0.nam",
     "did you mean name?"),
]  # fmt: skip
LINES = [
    ("arrivals: poison", "arrivals",
     "the single value 'poison' is not a law of arrivals; did you mean poisson?"),
    ("arrivals: 3", "arrivals", "the single value 3 is not a law of arrivals"),
    ("arrivals: gamma", "arrivals", "gamma needs a cv; write {gamma: {cv: 2}}"),
    ("arrivals: {gamma: {cv: 0}}", "arrivals.gamma.cv", "0 must be above 0"),
    ("arrivals: {constant: false}", "arrivals.constant", "false says nothing"),
    ("arrivals: {poisson: true, constant: true}", "arrivals", "holds poisson and constant"),
    ("arrivals: {}", "arrivals", "takes one of poisson, constant, gamma; write one of them"),
    ("slo: {ttft: 1}", "slo.ttft", "1 has no unit; write 1s or 1000ms"),
    ("slo: {tpot: 0s}", "slo.tpot", "'0s' must be above 0"),
    ("slo: {tttf: 1s}", "slo.tttf", "unknown key; did you mean ttft?"),
    ("temperature: -1", "temperature", "-1 must be at least 0"),
    ("temperature: .nan", "temperature", "nan is not a finite number"),
    ("seed: 1.5", "seed", "1.5 is not a whole number"),
    ("seed: -1", "seed", "-1 must be at least 0"),
    ("sead: 1", "sead", "unknown key; did you mean seed?"),
    ("closed: {clients: 3, for: 9s}", "closed", "stages says when requests come too; keep one"),
    ("closed: {clients: 0, for: 9s}", "closed.clients", "0 must be at least 1"),
    ("closed: {clients: 3}", "closed.for", "is missing"),
    ("closed: {clients: 3, fr: 9s, for: 9s}", "closed.fr", "did you mean for?"),
]  # fmt: skip
FILES = [
    ("", 1, "", "the file is empty; forebay workloads chat prints one to start from"),
    ("# nothing\n\n", 1, "", "the file is empty"),
    ("- a\n", 1, "", "a list is not a mapping of keys to values"),
    ("chat\n", 1, "", "'chat' is not a mapping of keys to values"),
    ("name: [w\n", 2, "", "not YAML"),
    (with_line("name: v"), 6, "name", "given twice, first in line 1"),
    (NO_STAGE, 1, "", "does not say when requests come; write stages, closed or trace"),
    (NO_STAGE + "stages: []\n", 1, "", "does not say when requests come"),
    (f"name: w\nstages:\n  - {STAGE}\n", 1, "requests", "is missing; list the kinds of request"),
    (f"stages:\n  - {STAGE}\nrequests:\n  - {KIND}\n", 1, "name", "is missing; it has no default"),
    ("name: ''\n" + with_line("").split("\n", 1)[1], 1, "name", "'' is not a name"),
    (with_line(f"  - {KIND}"), 6, "requests.1.name", "another kind is named requests too; give"),
    (NO_STAGE + "arrivals: constant\nclosed: {clients: 1, for: 9s}\n", 4, "arrivals",
     "has no effect beside closed; leave it out"),
]  # fmt: skip
CASES = [
    *((with_stage(stage), 3, field, words) for stage, field, words in STAGES),
    *((with_kind(kind), 5, field, words) for kind, field, words in KINDS),
    *((with_line(line), 6, field, words) for line, field, words in LINES),
    *FILES,
]


@pytest.mark.parametrize(("text", "line", "field", "words"), CASES)
def test_a_mistake_is_named_with_line_field_and_reason(
    text: str, line: int, field: str, words: str
) -> None:
    (problem,) = problems(text)
    assert (problem.line, problem.field) == (line, field)
    assert words in str(problem)
    assert str(problem).startswith(f"w.yaml:{line}: {field}")


TRACES = [
    ("file: no.csv, format: azure", "trace.file", "there is no file"),
    ("file: t.csv, format: azur", "trace.format", "'azur' is not a trace format; did you mean"),
    ("file: t.csv", "trace.format", "is missing"),
    ("file: t.csv, format: azure, speed: 0", "trace.speed", "0 must be above 0"),
    ("file: t.csv, format: azure, thin: 0%", "trace.thin", "'0%' must be above 0"),
    ("file: t.csv, format: azure, thin: 2", "trace.thin", "'2' is not a share"),
    ("file: t.csv, format: azure, copies: 0", "trace.copies", "0 must be at least 1"),
    ("file: t.csv, format: azure, context: 1", "trace.context", "1 must be above 1"),
    ("file: t.csv, format: azure, start: -1s", "trace.start", "-1s is below zero"),
    ("file: t.csv, format: azure, for: 9", "trace.for", "9 has no unit; write 9s"),
    ("file: t.csv, format: azure, sped: 2", "trace.sped", "unknown key; did you mean speed?"),
    ("file: ~nobody-here/t.csv, format: azure", "trace.file", "there is no file ~nobody-here"),
    (f"file: {'t' * 300}, format: azure", "trace.file", "there is no file"),
    ('file: "t\\0", format: azure', "trace.file", "there is no file"),
    ("file: ., format: azure", "trace.file", "there is no file"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "field", "words"), TRACES)
def test_a_mistake_in_a_trace_is_named_too(
    tmp_path: Path, keys: str, field: str, words: str
) -> None:
    (tmp_path / "t.csv").write_text("")
    (problem,) = problems(f"name: w\ntrace: {{{keys}}}\n", tmp_path)
    assert (problem.line, problem.field) == (2, field)
    assert words in str(problem)


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        (f"requests:\n  - {KIND}\n", "requests", "a trace has requests of its own; leave one"),
        (f"stages:\n  - {STAGE}\n", "trace", "stages says when requests come too; keep one"),
        ("closed: {clients: 1, for: 9s}\n", "trace", "closed says when requests come too"),
        ("arrivals: constant\n", "arrivals", "has no effect beside trace; leave it out"),
    ],
)
def test_a_trace_stands_alone(tmp_path: Path, more: str, field: str, words: str) -> None:
    (tmp_path / "t.csv").write_text("")
    found = problems(f"name: w\ntrace: {{file: t.csv, format: azure}}\n{more}", tmp_path)
    assert [words in str(problem) for problem in found if problem.field == field] == [True]


def test_every_way_of_saying_when_is_refused_beside_another(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    text = with_line("closed: {clients: 1, for: 9s}") + "trace: {file: t.csv, format: azure}\n"
    fields = [problem.field for problem in problems(text, tmp_path)]
    assert fields == ["requests", "closed", "trace"]


def test_all_mistakes_come_at_once_in_line_order() -> None:
    text = with_stage("{hold: 20, for: 60}") + "sead: 3\nslo: {ttft: 1}\n"
    found = problems(text)
    assert [(one.line, one.field) for one in found] == [
        (3, "stages.0.hold"),
        (3, "stages.0.for"),
        (6, "sead"),
        (7, "slo.ttft"),
    ]


def test_an_unknown_workload_is_answered_with_the_nearest_or_all() -> None:
    with pytest.raises(
        SpecError, match="chatt: no such file or built-in workload; did you mean chat"
    ):
        load_workload("chatt")
    with pytest.raises(SpecError, match="known: batch, chat, code, launch-spike, rag"):
        load_workload("./nowhere.yaml")


def test_a_folder_or_binary_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_workload(str(tmp_path))
    (tmp_path / "w.yaml").write_bytes(b"name: \xff")
    with pytest.raises(SpecError, match=r"not UTF-8 text \(byte 6\)"):
        load_workload(str(tmp_path / "w.yaml"))


def key_paths(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every key in a file's data."""
    if isinstance(data, dict):
        below = [one for key, value in data.items() for one in key_paths(value, (*path, key))]
        return [*((*path, key) for key in data), *below]
    if isinstance(data, list):
        return [one for i, value in enumerate(data) for one in key_paths(value, (*path, i))]
    return []


KEYS = [
    (name, path)
    for name in built_in_names()
    for path in key_paths(yaml.safe_load(built_in_text(name)))
]


@given(st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from("xq_7"))
def test_a_mistyped_key_is_named_with_the_one_that_was_meant(
    key: tuple[str, tuple[str | int, ...]], at: int, letter: str
) -> None:
    """One letter too many, in any key of any built-in workload."""
    workload, path = key
    name = str(path[-1])
    typo = name[: at % (len(name) + 1)] + letter + name[at % (len(name) + 1) :]
    data = yaml.safe_load(built_in_text(workload))
    parent = data
    for part in path[:-1]:
        parent = parent[part]
    parent[typo] = parent[name]
    (problem,) = problems(yaml.safe_dump(data, sort_keys=False))
    assert problem.field == ".".join(map(str, (*path[:-1], typo)))
    assert (problem.message, problem.hint) == ("unknown key", f"did you mean {name}?")


LAUNCH = built_in_text("launch-spike").splitlines()
VALUES = st.sampled_from(
    ["", "1", "-1s", "[", "{", "x: y", "null", "&a *a", "!!x y", "'", "1.5", "~", "[[1]]", "5%"]
)


@given(st.integers(0, len(LAUNCH) - 1), VALUES, st.booleans())
def test_whatever_stands_in_a_line_it_is_read_or_refused(at: int, value: str, keep: bool) -> None:
    """Only SpecError comes out, each problem of it at a line of the file."""
    line = LAUNCH[at].split(":")[0] + f": {value}" if keep else value
    text = "\n".join([*LAUNCH[:at], line, *LAUNCH[at + 1 :]])
    try:
        loaded(text)
    except SpecError as refused:
        for problem in refused.problems:
            assert 1 <= problem.line <= len(LAUNCH) + 1, problem
