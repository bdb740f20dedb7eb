"""The mock as a process of its own, from JSON, from Python and from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from raw_client import ask, ask_until_closed, completion
from typer.testing import CliRunner, Result

from forebay.cli.mock import mock
from forebay.mock import MockSpec
from forebay.mock.mock_process import MockFailedError, mock_process

QUICK = {"ttft": "2ms", "itl": "1ms"}
APP = typer.Typer(rich_markup_mode=None, add_completion=False)
APP.command()(mock)
COMMAND = "import typer; from forebay.cli.mock import mock; typer.run(mock)"


async def test_a_process_answers_logs_and_sums_up(tmp_path: Path) -> None:
    log = tmp_path / "mock.jsonl"
    with mock_process({**QUICK, "log": str(log), "faults": ["500 100% from 1h"]}) as process:
        for number in range(3):
            await ask(process.url, completion(4), headers={"x-request-id": f"r{number}"})
        await ask_until_closed(process.url, completion(4), headers={"x-mock": "cut=2"})
    *lines, last = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [line["number"] for line in lines] == [0, 1, 2, 3]
    assert [line["request_id"] for line in lines] == ["r0", "r1", "r2", ""]
    for line in lines[:3]:
        assert line["due"] == [line["arrived_s"] + (0.002 + k * 0.001) for k in range(4)]
        assert all(d <= w for d, w in zip(line["due"], line["written"], strict=True))
    assert last["summary"] == process.summary
    assert process.summary is not None
    assert (process.summary["requests"], process.summary["tokens"]) == (4, 14)
    assert process.summary["faults"] == {"cut=2": 1}
    assert process.summary["statuses"] == {"200": 4}
    late = max(w - d for line in lines for d, w in zip(line["due"], line["written"], strict=True))
    assert process.summary["late_max_s"] == pytest.approx(late, abs=2e-6)
    assert 0 <= process.summary["late_p50_s"] <= process.summary["late_p99_s"]


async def test_without_a_log_it_still_counts() -> None:
    with mock_process(QUICK) as process:
        await ask(process.url, completion(4))
    assert process.summary is not None
    assert process.summary["requests"] == process.summary["requests_not_logged"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    with mock_process(QUICK) as process:
        await ask(process.url, completion(1))
        os.kill(process.pid, number)
    assert process.summary is not None
    assert process.summary["realtime"] is False


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_taken_port_is_said() -> None:
    with (
        taken_port() as port,
        pytest.raises(MockFailedError, match="in use"),
        mock_process({"port": port}),
    ):
        raise AssertionError("it started")


def started(spec: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forebay.mock"],
        input=spec if isinstance(spec, str) else json.dumps(spec),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("spec", "code", "says"),
    [
        ("{", 2, "Expecting"),
        ({"ttfd": "1s"}, 2, "unknown key 'ttfd'; did you mean ttft?"),
        ({"ttft": "1"}, 2, "ttft: 1 has no unit; write 1s"),
        ({"faults": ["dorp"]}, 2, "faults: unknown fault 'dorp'; did you mean drop?"),
        ({"log": "/no/such/folder/log"}, 3, "No such file"),
        ({"cores": [8191]}, 3, "Invalid argument"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(spec: Any, code: int, says: str) -> None:
    done = started(spec)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("forebay.mock: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"slots": 0}, "slots must be a whole number, 1 or more, not 0"),
        ({"slots": 1.5}, "slots must be a whole number"),
        ({"max_queued": 3}, "max_queued needs slots"),
        ({"slots": 1, "max_queued": -1}, "max_queued must be"),
        ({"port": 70_000}, "0 to 65535"),
        ({"retry_after_s": -1}, "retry_after_s"),
        ({"seed": -1}, "seed"),
        ({"max_model_len": 0}, "max_model_len"),
        ({"cores": [-1]}, "cores"),
        ({"ttft": 5}, "wrong type"),
        ({"faults": 5}, "wrong type"),
        ([], "JSON object"),
    ],
)
def test_impossible_specs_are_refused(values: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        MockSpec.parse(json.dumps(values))


def test_a_spec_reads_from_words() -> None:
    spec = MockSpec.parse('{"ttft": "lognormal:200ms/800ms", "slots": 4, "faults": ["cut=3 5%"]}')
    assert (str(spec.ttft), spec.slots) == ("lognormal:200ms/800ms", 4)
    assert [str(rule) for rule in spec.rules] == ["cut=3 5%"]
    assert spec.stalls == ()


def test_capacity_is_slots_over_service_time() -> None:
    spec = MockSpec.parse('{"ttft": "200ms", "itl": "10ms", "slots": 4}')
    assert spec.capacity_per_s(31) == pytest.approx(4 / 0.5)
    assert MockSpec().capacity_per_s(31) is None


# The command


def run(*args: str) -> Result:
    return CliRunner().invoke(APP, list(args))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--ttft", "200"], "--ttft: 200 has no unit; write 200s or 200000ms"),
        (["--itl", "normal:1s/2s"], "--itl: 'normal:1s/2s' is no law of time; write 200ms"),
        (["--fault", "dorp"], "--fault: unknown fault 'dorp'; did you mean drop?"),
        (["--slots", "0"], "--slots must be a whole number, 1 or more, not 0"),
        (["--max-queued", "4"], "--max-queued needs --slots"),
        (["--fault", "drop 60%", "--fault", "500 60%"], "--fault: the shares add up to 120%"),
        (["--retry-after", "-1s"], "--retry-after: -1s is below zero"),
        (["--cores", "all"], "--cores: 'all' names no cores; write 0 or 0,1"),
        (["--port", "70000"], "--port must be a whole number, 0 to 65535"),
    ],
)
def test_a_wrong_option_is_named_with_a_way_out(args: list[str], says: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(says)
    assert result.stderr.count("\n") == 1


def test_help_shows_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "Example: forebay mock" in result.stdout


def command(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_the_command_serves_until_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "mock.jsonl"
    options = ["--port", "0", "--ttft", "2ms", "--slots", "4", "--log", str(log)]
    with command(*options) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split(" answers at ")[1].split(": ")[0]
        answer = await ask(url, completion(2), headers={"X-Mock": "chunk=2"})
        assert answer.status == 200
        while not process.stdout.readline().startswith("requests 1  running 0  queued 0"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "4 slots carry" in first
    assert "stopped: 1 requests, 2 tokens" in output
    assert "written after due: p50" in output
    assert "1 x chunk=2" in output
    assert len(log.read_text("utf-8").splitlines()) == 2


def test_the_command_names_a_taken_port() -> None:
    with taken_port() as port, command("--port", str(port)) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert errors == (
        f"forebay mock: port {port} is taken; choose another with --port, or 0 for a free one\n"
    )
