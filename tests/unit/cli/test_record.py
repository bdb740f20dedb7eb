"""`forebay record` as a user calls it."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from forebay.cli.record import record
from forebay.mock.mock_process import mock_process
from forebay.record.rows import Recorded, row_line
from forebay.spec.workload import load_workload
from forebay.workload import Row


def run(*args: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(record, [str(arg) for arg in args], input=stdin)


def log(path: Path, count: int, bad: int = 0) -> Path:
    good = [json.dumps({"at": k, "prompt_tokens": 5, "output_tokens": 3}) for k in range(count)]
    path.write_text("\n".join([*good, *["sekret"] * bad]) + "\n")
    return path


def trace(path: Path, count: int = 600) -> Path:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.exponential(0.5, count)).tolist()
    tokens = rng.integers(10, 2000, (count, 2)).tolist()
    lines = [
        row_line(Recorded(row=Row(at_s=at, prompt_tokens=prompt, output_tokens=output)))
        for at, (prompt, output) in zip(times, tokens, strict=True)
    ]
    path.write_text("".join(lines))
    return path


def test_logs_become_a_trace_and_the_trace_a_workload(tmp_path: Path) -> None:
    output, workload = tmp_path / "trace.jsonl", tmp_path / "workload.yaml"
    result = run("logs", log(tmp_path / "a.jsonl", 100, bad=2), "--format", "forebay", "-o", output)
    assert result.exit_code == 0
    assert "100 requests from 1970-01-01T00:00:00.000+00:00" in result.stdout
    assert "2 of 102 lines cannot be read, the first:" in result.stdout
    assert f"{tmp_path / 'a.jsonl'}:101: is not JSON" in result.stdout
    assert "sekret" not in result.output
    assert run("fit", output, "-o", workload).exit_code in (0, 1)
    assert load_workload(str(workload)).make()


def test_logs_for_programs(tmp_path: Path) -> None:
    result = run("logs", "-", "--format", "forebay", "-o", tmp_path / "t", "--json",
                 stdin=log(tmp_path / "a", 30).read_text())  # fmt: skip
    content = json.loads(result.stdout)
    assert (content["recorded"], content["unreadable"]) == (30, 0)
    assert content["since"] == "1970-01-01T00:00:00.000+00:00"
    assert result.exit_code == 0


def test_another_format_than_the_one_named_is_the_users_error(tmp_path: Path) -> None:
    output = tmp_path / "t"
    result = run("logs", log(tmp_path / "a", 10), "--format", "nginx", "-o", output)
    assert result.exit_code == 2
    assert "10 of 10 lines cannot be read; nothing was written" in result.stderr
    assert f"{tmp_path / 'a'}:1: does not match the pattern" in result.stderr
    assert "log_format forebay '$msec" in result.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["logs", "missing", "-o", "t"], "missing cannot be read: No such file"),
        (["logs", "here", "--format", "apache", "-o", "t"], "--format: 'apache' is none of"),
        (["logs", "here", "--format", "nginx", "--pattern", "(", "-o", "t"], "--pattern: not a"),
        (["logs", "here", "-o", "here"], "here exists; --force overwrites it"),
        (["logs", "cut.gz", "-o", "t"], "cut.gz is not a whole gzip file"),
        (["proxy", "--to", "here", "-o", "t"], "--to: not a URL"),
        (["proxy", "--to", "http://h", "-o", "here"], "here exists"),
        (["proxy", "--to", "http://h", "-o", "t", "--grace", "5"], "--grace: 5 has no unit"),
        (["fit", "missing", "-o", "w"], "missing cannot be read"),
        (["fit", "here", "-o", "w"], "here: line 1: has no at_s"),
        (["fit", "here", "-o", "w", "--format", "x"], "unknown trace format"),
        (["fit", "few", "-o", "w"], "too few for a fit; it takes 30; replay the trace itself"),
        (["fit", "good", "-o", "here"], "here exists; --force"),
    ],
)
def test_what_a_user_gets_wrong(
    args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log(Path("here"), 40)
    trace(Path("few"), 5)
    trace(Path("good"))
    Path("cut.gz").write_bytes(gzip.compress(b"{}\n" * 1000)[:-4])
    result = run(*args)
    assert result.exit_code == 2
    assert says in result.stderr.replace("\n", " ")
    assert not Path("t").exists()
    assert not Path("w").exists()


def test_a_file_that_cannot_be_written_is_the_environments_fault(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "t"
    commands: list[list[str | Path]] = [
        ["logs", log(tmp_path / "a", 40), "--format", "forebay", "-o", nowhere],
        ["fit", trace(tmp_path / "b"), "-o", nowhere],
        ["proxy", "--to", "http://localhost:1", "-o", nowhere],
    ]
    for args in commands:
        result = run(*args)
        assert result.exit_code == 3
        assert "No such file or directory" in result.stderr


def test_fit_says_figure_by_figure_how_well(tmp_path: Path) -> None:
    result = run("fit", trace(tmp_path / "t.jsonl"), "-o", tmp_path / "w.yaml")
    assert result.exit_code == 0
    for words in ("gaps: poisson", "gaps, rate removed", "output lengths", "reusable", "fits",
                  f"wrote {tmp_path}"):  # fmt: skip
        assert words in result.stdout.replace("\n", "")


def test_fit_for_programs(tmp_path: Path) -> None:
    result = run("fit", trace(tmp_path / "t.jsonl"), "-o", tmp_path / "w.yaml", "--json")
    content = json.loads(result.stdout)
    assert content["verdict"] == "fits"
    assert content["files"][-1] == str(tmp_path / "w.yaml")
    assert {figure["name"] for figure in content["figures"]} >= {"prompt lengths"}


def test_a_fit_that_does_not_fit_is_a_check_that_says_no(tmp_path: Path) -> None:
    rows = [
        Row(at_s=turn * 20.0 + session * 0.7, prompt_tokens=(turn + 1) * 512, output_tokens=9,
            blocks=("sys", *(f"{session}.{k}" for k in range(turn))))
        for turn in range(6) for session in range(60)
    ]  # fmt: skip
    path, output = tmp_path / "t.jsonl", tmp_path / "w.yaml"
    path.write_text("".join(row_line(Recorded(row=row)) for row in rows))
    result = run("fit", path, "-o", output)
    assert result.exit_code == 1
    assert f"trace: {{file: {path}, format: forebay}}" in result.stdout.replace("\n", "")
    assert output.exists()


@pytest.mark.parametrize("command", ["logs", "proxy", "fit"])
def test_every_help_has_an_example(command: str) -> None:
    assert f"Example: forebay record {command}" in run(command, "--help").stdout


def ask(url: str, body: dict[str, Any], **headers: str) -> bytes:
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"X-Mock": "none", **headers}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: bytes = response.read()
    return answer


def test_a_recording_from_its_start_to_ctrl_c(tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl.gz"
    command = [sys.executable, "-c", "from forebay.cli.record import record; record()"]
    with mock_process({"ttft": "1ms", "itl": "1ms"}) as mock:
        args = ["proxy", "--to", mock.url, "--port", "0", "-o", str(output), "--json"]
        process = subprocess.Popen([*command, *args], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            try:
                url = json.loads(process.stdout.readline())["url"]
                body = {"prompt": "a sekret of four", "max_tokens": 5, "stream": True}
                usage = {"stream_options": {"include_usage": True}}
                direct = ask(mock.url, {**body, **usage})
                through = ask(url, {**body, **usage}, Authorization="Bearer sekret")
                assert through.replace(b"cmpl-1", b"cmpl-0") == direct
                ask(url, body)
            finally:
                process.send_signal(signal.SIGINT)
            summary = json.loads(process.stdout.read())["summary"]
        assert process.returncode == 0
    assert summary["outcomes"] == {"ok": 2}
    assert summary["with_estimates"] == 1
    assert summary["fault"] == ""
    text = gzip.decompress(output.read_bytes()).decode()
    assert "sekret" not in text
    counted, estimated = map(json.loads, text.splitlines())
    assert (counted["prompt_tokens"], counted["output_tokens"]) == (4, 5)
    assert (estimated["output_tokens"], estimated["estimated"]) == (
        5, ["prompt_tokens", "output_tokens"],
    )  # fmt: skip


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    command = [sys.executable, "-c", "from forebay.cli.record import record; record()"]
    with mock_process({"ttft": "1h"}) as mock:
        args = ["proxy", "--to", mock.url, "--port", "0", "-o", str(output), "--json"]
        process = subprocess.Popen([*command, *args], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
            with (
                socket.create_connection(address, 30) as idle,
                socket.create_connection(address, 30) as busy,
            ):
                body = b'{"prompt": "a", "stream": true}'
                busy.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: ")
                busy.sendall(b"%d\r\n\r\n%b" % (len(body), body))
                assert busy.recv(12) == b"HTTP/1.1 200"
                process.send_signal(signal.SIGTERM)
                assert idle.recv(1) == b""  # the first signal closes what is idle
                process.send_signal(signal.SIGTERM)
                assert json.loads(process.stdout.read())["summary"]["outcomes"] == {"stopped": 1}
        assert process.returncode == 0


def test_a_taken_port_is_the_environments_fault(tmp_path: Path) -> None:
    with mock_process({"ttft": "1ms"}) as mock:
        port = mock.url.rsplit(":", 1)[1]
        result = run("proxy", "--to", mock.url, "--port", port, "-o", tmp_path / "t")
    assert result.exit_code == 3
    assert port in result.stderr


def test_a_taken_port_costs_no_recording(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("of last week\n")
    with mock_process({"ttft": "1ms"}) as mock:
        port = mock.url.rsplit(":", 1)[1]
        run("proxy", "--to", mock.url, "--port", port, "-o", tmp_path / "new")
        run("proxy", "--to", mock.url, "--port", port, "-o", tmp_path / "old", "--force")
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "old").read_text() == "of last week\n"
