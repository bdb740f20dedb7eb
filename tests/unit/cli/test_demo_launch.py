"""`forebay demo --workload`: what is wrong with its input is said before a service is started."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer

from forebay.cli import launch as command
from forebay.cli import service
from forebay.cli.exits import Exit
from forebay.serving.cluster import platform
from forebay.spec.service import load_service_text

SERVICE = load_service_text("name: s\nmodel: {id: demo, source: demo}\n")


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        pytest.fail("a service was started")

    monkeypatch.setattr(platform, "Platform", start)
    monkeypatch.setattr(service, "catch_signals", lambda: None)


def test_a_broken_trace_is_the_inputs_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,5,5\nx,y,z\n"
    (tmp_path / "trace.csv").write_text(trace)
    workload = tmp_path / "w.yaml"
    workload.write_text("name: t\ntrace: {file: trace.csv, format: azure}\n")
    assert command.launch(SERVICE, str(workload), None) is Exit.INPUT_IS_WRONG
    assert "line 3" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(typer.Exit) as ended:
        command.launch(SERVICE, "chat", tmp_path / "file")
    assert ended.value.exit_code == Exit.INPUT_IS_WRONG
    assert "--output" in capsys.readouterr().err


def test_a_run_that_cannot_be_written_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(_: Path) -> None:
        raise OSError(28, "No space left on device")

    run = SimpleNamespace(validity=SimpleNamespace(valid=True))
    measured = cast(Any, SimpleNamespace(run=run, write=write))
    told: list[Any] = []
    monkeypatch.setattr(command, "_measured", lambda *_: measured)
    monkeypatch.setattr(command, "print_result", lambda *what: told.append(what))
    assert command.launch(SERVICE, "chat", tmp_path) is Exit.ENVIRONMENT_FAILED
    assert told == [(measured, None)]
    assert "No space left on device" in capsys.readouterr().err
