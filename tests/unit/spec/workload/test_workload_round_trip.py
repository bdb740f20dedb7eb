"""A workload written out is the same workload when it is read: as YAML, and as a worker gets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from workload_texts import loaded, workloads

from forebay.spec.workload import WorkloadSpec, built_in_names, load_workload, workload_text


def written_and_read(spec: WorkloadSpec) -> list[WorkloadSpec]:
    as_json = json.loads(json.dumps(spec.plain()))
    return [loaded(workload_text(spec)), WorkloadSpec.model_validate(as_json)]


@given(workloads())
def test_any_workload_survives_writing_and_reading(data: dict[str, Any]) -> None:
    spec = WorkloadSpec.model_validate(data)
    for again in written_and_read(spec):
        assert again == spec
        assert again.make() == spec.make()
        assert again.plain() == spec.plain()


@pytest.mark.parametrize("name", built_in_names())
def test_every_built_in_workload_survives_writing_and_reading(name: str) -> None:
    spec = load_workload(name)
    for again in written_and_read(spec):
        assert again == spec
        assert again.make() == spec.make()


@pytest.mark.slow
def test_a_week_of_rates_survives_writing_and_reading(tmp_path: Path) -> None:
    rows = [f"{15 * n},{1 + n % 7}" for n in range(40_320)]
    (tmp_path / "rates.csv").write_text("\n".join(["seconds,rate", *rows]))
    text = "name: w\nstages: [{series: rates.csv, for: 168h}]\nrequests: [{prompt: 9, output: 2}]\n"
    spec = loaded(text, tmp_path)
    assert loaded(workload_text(spec)) == spec


def test_a_trace_is_found_again_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = '{"at_s": 1, "prompt_tokens": 5, "output_tokens": 5}'
    (tmp_path / "t.jsonl").write_text(line)
    keys = "file: t.jsonl, format: forebay, start: 0s, for: 5s, thin: 100%, speed: 2, copies: 2"
    spec = loaded(f"name: w\ntrace: {{{keys}, context: 100}}\n", tmp_path)
    monkeypatch.chdir("/")
    for again in written_and_read(spec):
        assert again == spec
        assert again.make() == spec.make()


def test_a_short_file_stays_short() -> None:
    text = "name: w\nstages:\n- for: 1m\n  hold: 2/s\nrequests:\n- prompt:\n    fixed: 10\n"
    text += "  output:\n    fixed: 5\n"
    assert workload_text(loaded(text)) == text
