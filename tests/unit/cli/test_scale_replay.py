"""`forebay scale FILE --replay RUN`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded_scaling import run_folder
from typer.testing import CliRunner

from forebay.cli.main import app

FILE = """
name: chat
model: {id: demo, source: demo}
slo: {ttft_p99: 1s}
scaling: {min: 1, max: %d, headroom: %s, stable: 60s}
"""


def service(folder: Path, most: int = 6, headroom: str = "20%") -> str:
    file = folder / "chat.yaml"
    file.write_text(FILE % (most, headroom))
    return str(file)


def test_the_table_and_the_page_show_both_fleets(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    said = CliRunner().invoke(app, ["scale", service(tmp_path, 12, "50%"), "--replay", str(run)])
    assert said.exit_code == 0, said.output
    assert "by this file" in said.output
    assert "replica-hours" in said.output
    page = (run / "scaling-replay.html").read_text()
    assert "headroom 50%" in page
    assert "<svg" in page
    assert "knew nothing from before the run" in page
    assert "set by hand are left out" in page


def test_as_json_with_the_same_settings_the_fleets_are_the_same(tmp_path: Path) -> None:
    run, page = run_folder(tmp_path), tmp_path / "page.html"
    command = ["scale", service(tmp_path), "--replay", str(run), "--json", "--output", str(page)]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    told = json.loads(said.output)
    assert told["then"] == told["now"]
    assert told["now"]["most"] == 6
    assert len(told["looks"]) == 600
    assert page.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "holds no scaling.jsonl"), ('{"at": 1}\n', "decision 1: not a scaling decision")],
)
def test_a_run_that_cannot_be_replayed_is_told(
    tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "scaling.jsonl").write_text(content)
    found = CliRunner().invoke(app, ["scale", service(tmp_path), "--replay", str(tmp_path)])
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())


@pytest.mark.parametrize("options", [[], ["--min", "2", "--replay", "runs"]])
def test_a_floor_or_a_replay(tmp_path: Path, options: list[str]) -> None:
    found = CliRunner().invoke(app, ["scale", service(tmp_path), *options])
    assert found.exit_code == 2
    assert "--replay" in found.output


def test_a_service_of_fixed_size_is_told_so(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["scale", service(tmp_path, 1), "--replay", str(tmp_path)])
    assert found.exit_code == 2
    assert "the size is fixed" in found.output
