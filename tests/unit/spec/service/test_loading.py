from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from model_folders import make_model

from forebay.spec.files import Problem, SpecError
from forebay.spec.service import (
    ServiceSpec,
    field_docs,
    load_service,
    load_service_text,
    starter_text,
)
from forebay.spec.service.service_spec import DEMO_MODEL

DEMO = "name: chat\nmodel: {id: demo, source: demo}\n"


def problems(text: str, folder: Path | None = None) -> list[Problem]:
    with pytest.raises(SpecError) as refused:
        load_service_text(text, "f.yaml", folder)
    return refused.value.problems


def said(text: str) -> list[str]:
    return [str(problem) for problem in problems(text)]


def test_the_shortest_file_gets_every_default() -> None:
    spec = load_service_text(DEMO)
    assert spec.model.source_path == DEMO_MODEL
    assert spec.hardware.is_cpu
    assert spec.hardware.kv_cache == 2**30
    assert (spec.slo.ttft_p99, spec.slo.tpot_p99) == (1.0, 0.2)
    assert (spec.ttft_budget("interactive"), spec.ttft_budget("batch")) == (1.0, 30.0)
    assert (spec.deadline("interactive"), spec.deadline("batch")) == (2.0, 60.0)
    assert spec.server.start_timeout == 600.0


def test_the_demo_file_of_the_repository_loads() -> None:
    spec = load_service(Path(__file__).parents[4] / "examples/demo.yaml")
    assert spec.name == "demo"
    assert spec.model.engine_args["block_size"] == 32


def test_a_class_keeps_its_own_defaults_for_what_is_not_written() -> None:
    spec = load_service_text(DEMO + "admission: {classes: {batch: {weight: 2}}}")
    assert spec.admission.classes["batch"].ttft == 30.0
    assert spec.admission.classes["interactive"].weight == 8.0


def test_the_deadline_of_the_file_holds_for_every_class() -> None:
    spec = load_service_text(DEMO + "admission: {deadline: 40s}")
    assert spec.deadline("batch") == spec.deadline("interactive") == 40.0


def test_a_deadline_may_be_as_long_as_the_longest_budget() -> None:
    shorter = "admission: {deadline: 5s, classes: {batch: {ttft: 5s}}}"
    assert load_service_text(DEMO + shorter).deadline("batch") == 5.0


def test_a_deadline_within_a_budget_is_refused_with_a_way_out() -> None:
    assert said(DEMO + "admission:\n  deadline: 10s\n") == [
        "f.yaml:4: admission.deadline: 10s is before the end of the TTFT budget of batch, 30s; "
        "write at least 30s, or a shorter admission.classes.batch.ttft"
    ]
    slow = "slo: {ttft_p99: 1m}\nadmission: {deadline: 45s}"
    assert "of interactive, 1m" in problems(DEMO + slow)[0].message


def test_an_interactive_budget_beyond_the_promise_is_refused_with_a_way_out() -> None:
    text = "slo: {ttft_p99: 2s}\nadmission: {classes: {interactive: {ttft: %s}}}"
    assert load_service_text(DEMO + text % "2s").ttft_budget("interactive") == 2.0
    assert said(DEMO + text % "3s") == [
        "f.yaml:4: admission.classes.interactive.ttft: 3s is above slo.ttft_p99, 2s, which is "
        "what users are promised; write at most 2s, or slo.ttft_p99: 3s"
    ]


def test_a_spec_survives_writing_and_reading() -> None:
    spec = load_service_text(DEMO + "slo: {ttft_p99: 1m30s}\nserver: {max_body: 3MB}")
    assert ServiceSpec.model_validate(spec.model_dump()) == spec
    assert load_service_text(yaml.safe_dump(spec.model_dump(mode="json"))) == spec


@pytest.mark.parametrize("margin", ["20%", "20 %", "0.2", "'0.2'"])
def test_the_margin_is_a_share_as_the_headroom_is(margin: str) -> None:
    text = f"admission: {{margin: {margin}}}\nscaling: {{headroom: {margin}}}"
    spec = load_service_text(DEMO + text)
    assert spec.admission.margin == spec.scaling.headroom == 0.2


def test_a_number_without_unit_is_told_its_units() -> None:
    text = DEMO + "slo:\n  ttft_p99: 1\n"
    assert said(text) == ["f.yaml:4: slo.ttft_p99: 1 has no unit; write 1s or 1000ms"]


def test_all_problems_come_at_once_in_line_order() -> None:
    text = """\
nam: chat
name: Chat_
model:
  id: 3
  source: ./nowhere
slo:
  ttft_p99: -1s
admission:
  margin: 2
scaling: {min: 3, max: 2}
"""
    found = problems(text)
    assert [(one.line, one.field) for one in found] == [
        (1, "nam"),
        (2, "name"),
        (4, "model.id"),
        (5, "model.source"),
        (7, "slo.ttft_p99"),
        (9, "admission.margin"),
        (10, "scaling.max"),
    ]
    assert found[4].message == "-1s is below zero"
    assert found[4].column == 13


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "the file is empty; forebay init writes a starter file"),
        ("# nothing\n", 1, "the file is empty"),
        ("- a\n", 1, "holds a list, not keys with values"),
        ("chat", 1, "holds the single value 'chat'"),
        ("name: [chat\n", 2, "not YAML"),
        ("name: chat\n\tmodel: 3", 2, "not YAML"),
        (DEMO + "name: other", 3, "name: given twice, first in line 1; keep one of the two"),
        (DEMO + "slo: {ttft_p99: 1s,\n ttft_p99: 2s}", 4, "slo.ttft_p99: given twice"),
        (DEMO + "---\n" + DEMO, 3, "not YAML: expected a single document"),
        ("name: &a {b: *a}", 1, "name.b: contains itself"),
        ("name: " + "[" * 3000, 1, "nested too deeply"),
        ("\nname: 2026-13-45", 2, "cannot be read as timestamp: month must be in 1..12"),
        ("\nname: !!bool x", 2, "cannot be read as bool"),
        ("\nname: !!bool ''", 2, "cannot be read as bool"),
        ("\nname: !!float ''", 2, "cannot be read as float"),
        ("\nname: !!float x", 2, "cannot be read as float: could not convert"),
        ("\nname: !!int ''", 2, "cannot be read as int"),
        ("\nname: !!int x", 2, "cannot be read as int: invalid literal"),
        ("\nname: !!timestamp x", 2, "cannot be read as timestamp"),
        ("\nname: !!timestamp 2026-01-01T00:00:00+99:00", 2, "cannot be read as timestamp: "),
        ("\nname: !!float 1" + ":1" * 200, 2, "cannot be read as float"),
        ("\nname: 1" + "0" * 5000, 2, "cannot be read as int: Exceeds the limit"),
        ("\nname: [a,\n  !!bool x]", 3, "cannot be read as bool"),
        ("\n? !!int ''\n: 3", 2, "this key does not read as text"),
        ('\nname: "\\UFFFFFFFF"', 2, "not YAML"),
        ('\nname: "\\U00110000"', 2, "not YAML"),
        ("name: !!python/object:os.system x", 1, "could not determine a constructor"),
        ("name: \0", 1, "special characters are not allowed"),
        (DEMO + "yes: 1", 3, "yes: this key does not read as text; put it in quotes"),
        (DEMO + "? {a: b}\n: 3", 3, "this key does not read as text"),
        ("name: no\nmodel: {id: d, source: demo}", 1, "false is not text (quotes make it text)"),
        (DEMO + "slo:", 3, "slo: an empty value is not a mapping"),
        (DEMO + "slo: [1s]", 3, "slo: a list is not a mapping"),
        (DEMO + "slo: {ttft_p99: }", 3, "an empty value is not a duration"),
        (DEMO + "slo: {ttft_p99: 0s}", 3, "0 must be above 0"),
        (DEMO + "scaling: {min: 2}", 3, "1 is below scaling.min, 2; write at least 2"),
        (DEMO + "scaling: {min: -1}", 3, "-1 must be at least 0"),
        (DEMO + "server: {port: 8081}", 3, "8081 is server.port too"),
        (DEMO + "server: {port: 80000}", 3, "80000 must be at most 65535"),
        (DEMO + "server: {max_json_depth: '64'}", 3, "'64' is not a whole number"),
        (DEMO + "admission: {classes: {gold: {weight: 1}}}", 3, "known: interactive, batch"),
        (DEMO + "admission: {classes: {batch: 3}}", 3, "3 is not a mapping"),
        (DEMO + "admission: {classes: {batch: {weight: 1.0e-12}}}", 3, "must be at least 0.001"),
        (DEMO + "admission: {classes: {batch: {weight: 1.0e+300}}}", 3, "must be at most 1000"),
        (DEMO + "admission: {batch_stretch: .nan}", 3, "nan is not a finite number"),
        (DEMO + "admission: {margin: .nan}", 3, "'nan' is not a share"),
        (DEMO + "admission: {margin: 20}", 3, "'20' is not a share between 0 and 100 %"),
        (DEMO + "admission: {margin: 95%}", 3, "0.95 must be at most 0.9"),
        (DEMO + "hardware: {accelerator: h100}", 3, "did you mean H100?"),
        (DEMO + "hardware: {accelerator: L4, kv_cache: 1GiB}", 3, "for accelerator: cpu only"),
        ("name: chat\n", 1, "model: is missing"),
        ("name: chat\nmodel: {id: a}", 2, "model.source: is missing"),
        ("name: chat\nmodel: {id: a, source: gpt2}", 2, "nor a Hugging Face id"),
        ("name: chat\nmodel: {id: a, source: /no/where}", 2, "there is no folder /no/where"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_reason(text: str, line: int, words: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].line == line
    assert words in str(found[0])


def test_what_lies_below_an_unknown_key_is_not_judged() -> None:
    text = DEMO + "admission: {classes: {interactve: {weight: 0}}}"
    assert said(text) == [
        "f.yaml:3: admission.classes.interactve: unknown key; did you mean interactive?"
    ]


def test_a_file_of_aliases_that_stands_for_billions_of_values_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert [one.message for one in problems("\n".join(lines))] == ["holds too many values"]


def test_a_merge_key_is_followed() -> None:
    text = "name: chat\nmodel:\n  <<: {id: demo}\n  source: demo\n"
    assert load_service_text(text).model.id == "demo"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nope\.yaml: no such file; forebay init writes"):
        load_service(tmp_path / "nope.yaml")


def test_a_folder_or_binary_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_service(tmp_path)
    (tmp_path / "f.yaml").write_bytes(b"name: \xff")
    with pytest.raises(SpecError, match=r"not UTF-8 text \(byte 6\)"):
        load_service(tmp_path / "f.yaml")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("\ufeff" + DEMO)
    assert load_service(tmp_path / "f.yaml").name == "chat"


def test_a_relative_source_counts_from_the_file(tmp_path: Path) -> None:
    folder = make_model(tmp_path)
    for written in ("./mine", "mine"):
        (tmp_path / "f.yaml").write_text(
            f"name: chat\nmodel: {{id: a, source: {written}}}\n"
            "hardware: {accelerator: H200, accelerator_memory: 400GiB}"
        )
        spec = load_service(tmp_path / "f.yaml")
        assert spec.model.source_path == folder
        assert ServiceSpec.model_validate(spec.model_dump()).model.source_path == folder


def test_a_hugging_face_id_has_no_folder() -> None:
    spec = load_service_text("name: a\nmodel: {id: a, source: Qwen/Qwen3-0.6B}")
    assert spec.model.source_path is None
    assert spec.model.source == "Qwen/Qwen3-0.6B"


KEYS = [(doc.path, doc.section) for doc in field_docs()]


@given(st.sampled_from(KEYS), st.integers(0, 30), st.sampled_from("xq_7"))
def test_a_mistyped_key_is_named_with_the_one_that_was_meant(
    key: tuple[tuple[str, ...], Any], at: int, letter: str
) -> None:
    """One letter too many, in any key of the starter file."""
    path, section = key
    name = path[-1]
    typo = name[: at % (len(name) + 1)] + letter + name[at % (len(name) + 1) :]
    siblings = {other[-1] for other, _ in KEYS if other[:-1] == path[:-1]}
    assume(typo not in siblings)
    data = yaml.safe_load(starter_text())
    parent = data
    for part in path[:-1]:
        parent = parent[part]
    parent[typo] = {} if section is not None else parent.get(name)
    found = problems(yaml.safe_dump(data, sort_keys=False))
    assert [one.field for one in found] == [".".join((*path[:-1], typo))]
    assert found[0].message == "unknown key"
    assert found[0].hint == f"did you mean {name}?"


@pytest.mark.parametrize("source", ["~nobody-here/model", "./" + "a" * 300, "a" * 300])
def test_a_source_that_no_file_could_have_is_refused_like_any_other(source: str) -> None:
    (found,) = problems(f"name: a\nmodel: {{id: a, source: {source}}}")
    assert found.field == "model.source"


STARTER = starter_text().splitlines()
VALUES = st.sampled_from(
    ["", "1", "-1s", "[", "{", "x: y", "null", "&a *a", "!!x y", "'", "1.5", "~"]
)


@given(st.integers(0, len(STARTER) - 1), VALUES, st.booleans())
def test_whatever_stands_in_a_line_it_is_read_or_refused(at: int, value: str, keep: bool) -> None:
    """Only SpecError comes out, each problem of it at a line of the file."""
    line = STARTER[at].split(":")[0] + f": {value}" if keep else value
    text = "\n".join([*STARTER[:at], line, *STARTER[at + 1 :]])
    try:
        load_service_text(text)
    except SpecError as refused:
        for problem in refused.problems:
            assert 1 <= problem.line <= len(STARTER) + 1, problem


def test_a_fault_in_a_list_hides_no_other() -> None:
    faulty = """\
name: chat
model: {id: a, source: ./nowhere}
scaling: {min: 1, max: 2, schedule: [{cron: "0 8 * * *", for: 1h, min: 0}]}
"""
    assert [problem.field for problem in problems(faulty)] == [
        "model.source", "scaling.schedule.0.min",
    ]  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_replicas_are_reached_where_they_listen(host: str) -> None:
    assert load_service_text(f"{DEMO}server: {{host: {host}}}").server.host == host


def test_an_address_that_the_proxy_would_not_find_replicas_at_is_refused() -> None:
    (found,) = problems(f"{DEMO}server: {{host: 10.0.0.5}}")
    assert found.field == "server.host"
    assert "0.0.0.0" in found.hint
