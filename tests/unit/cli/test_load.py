"""`forebay load` and `forebay workloads` as their users run them, against the mock."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from forebay.capacity import Next
from forebay.cli import load as load_command
from forebay.cli.main import app
from forebay.load.plan import Endpoint
from forebay.load.results import rate_finding, read_run
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import ClientFacts, RequestRecord
from forebay.measure.evidence import gather_evidence
from forebay.measure.evidence_words import good
from forebay.measure.validity import judge
from forebay.spec.workload import fixed_workload

SPEC = fixed_workload("w", 9, 2, stages=[(5.0, 60.0)])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A mock in a process of its own: an ordinary client's workers must not share its loop."""
    process = subprocess.Popen(
        [sys.executable, "-m", "forebay.mock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"ttft": "5ms", "itl": "1ms"}')
    process.stdin.close()
    yield str(json.loads(process.stdout.readline())["url"])
    process.terminate()
    process.stdout.read()
    process.wait()
    process.stdout.close()


def load(url: str, *args: str) -> Result:
    return CliRunner().invoke(app, ["load", url, "--no-realtime", *args], env={"COLUMNS": "200"})


def test_a_run_leaves_its_folder_and_says_what_bound(url: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = load(url, "--rate", "20/s,40/s", "--for", "1s", "--prompt-tokens", "9",
                  "--output-tokens", "4", "--output", str(out))  # fmt: skip
    assert result.exit_code in (0, 3), result.output  # 3: this machine was too busy
    assert {file.name for file in out.iterdir()} >= {
        "requests.parquet", "summary.json", "workload.yaml", "report.html",
    }  # fmt: skip
    run = read_run(out)
    assert len(run.summary["stages"]) == 2
    assert run.summary["overall"]["offered"] == len(run.records) > 0
    assert f"{len(run.records)} requests" in result.stdout
    assert str(out / "report.html") in result.stdout.replace("\n", "")


def test_the_workload_of_a_run_can_be_run_again(url: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    load(url, "--rate", "20/s", "--for", "1s", "--output-tokens", "2", "--output", str(first))
    load(url, "-w", str(first / "workload.yaml"), "--output", str(second))
    one, other = read_run(first), read_run(second)
    assert one.summary["fingerprint"] == other.summary["fingerprint"]
    assert [r.max_tokens for r in one.records] == [r.max_tokens for r in other.records]
    assert one.summary["salt"] != other.summary["salt"]


def test_machines_get_json_alone(url: str, tmp_path: Path) -> None:
    result = load(url, "--rate", "20/s", "--for", "1s", "--output-tokens", "2",
                  "--output", str(tmp_path / "r"), "--json")  # fmt: skip
    said = json.loads(result.stdout)
    assert said["schema"] == 1
    assert said["overall"]["offered"] > 0
    assert said["binding"]["what"]


def test_a_closed_loop_and_completions(url: str, tmp_path: Path) -> None:
    result = load(url, "--clients", "3", "--for", "1s", "--api", "completions",
                  "--prompt-tokens", "5", "--output-tokens", "2", "--output", str(tmp_path / "r"),
                  "--json")  # fmt: skip
    said = json.loads(result.stdout)
    assert said["endpoint"]["prompt_lengths"].startswith("exact")
    assert {r.prompt_tokens for r in read_run(tmp_path / "r").records} == {5}


def test_check_says_no(url: str, tmp_path: Path) -> None:
    result = load(url, "--rate", "20/s", "--for", "1s", "--output-tokens", "2", "--slo-ttft", "1us",
                  "--check", "0.9", "--output", str(tmp_path / "r"))  # fmt: skip
    assert result.exit_code in (1, 3)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--rate", "20"), "write 20/s"),
        (("--rate", "fast"), "--rate: 'fast' is not a rate"),
        (("--ramp", "5/s"), "write 5/s..80/s"),
        (("--rate", "5/s", "--clients", "3"), "keep one"),
        (("--for", "60"), "write 60s"),
        (("--workload", "chta"), "did you mean chat?"),
        (("--api", "soap"), "neither chat nor completions"),
        (("--header", "nonsense"), "--header: number 1 is not a header; write 'Name: value'"),
        (("--cores", "a"), "--cores"),
        (("--cores", "9999"), "no core 9999"),
        (("--good", "95%"), "--good is for --find-rate"),
    ],
)
def test_a_wrong_option_is_named_with_a_way_out(url: str, args: tuple[str, ...], said: str) -> None:
    result = load(url, *args)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("header", ["Authorization Bearer fb_secret", ": fb_secret", "fb_secret"])
def test_a_malformed_header_is_not_repeated(header: str) -> None:
    result = load("http://127.0.0.1:1", "--header", "X-A: b", "--header", header)
    assert result.exit_code == 2
    assert "--header: number 2 is not a header" in result.stderr
    assert "fb_secret" not in result.stderr


@pytest.mark.parametrize("key", ["fb_secret\r\nX: y", "fb_sec\x01ret", "fb_secret\u2026"])
def test_a_key_that_no_header_may_have_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    result = load("http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "OPENAI_API_KEY holds a line break or another character" in result.stderr
    assert "fb_sec" not in result.output


def test_a_key_may_end_in_the_line_break_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "fb_secret\r\n")
    headers = load_command._headers_or_exit([], "OPENAI_API_KEY")
    assert headers == {"Authorization": "Bearer fb_secret"}


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_header_that_is_written_goes_before_the_key_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-theirs")
    headers = load_command._headers_or_exit([f"{name}: Bearer theirs"], "OPENAI_API_KEY")
    assert headers == {name: "Bearer theirs"}


@pytest.mark.parametrize("search", [(), ("--find-rate",)])
def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(
    url: str, tmp_path: Path, search: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    result = load(url, "--rate", "1/s", "--for", "1h", "--output", str(tmp_path / "file"), *search)
    assert result.exit_code == 2
    assert f"--output: {tmp_path / 'file'} cannot be written" in result.stderr


def test_users_who_left_are_not_counted_as_badly_served() -> None:
    validity = SimpleNamespace(valid=True)

    def code(**counts: int) -> int:
        summary = SimpleNamespace(**{"cancelled": 0, "stopped": 0, **counts})
        measured = SimpleNamespace(run=SimpleNamespace(validity=validity, summary=summary))
        return load_command._exit_code(cast(Any, measured), 0.95)

    assert code(offered=100, good=80, cancelled=20) == 0
    assert code(offered=100, good=80, cancelled=10) == 1
    assert code(offered=20, good=0, cancelled=20) == 1


@pytest.mark.parametrize("option", ["--check", "--good"])
@pytest.mark.parametrize("share", ["95", "1.5", "101%", "-0.1", "nan", "most", ""])
def test_a_share_that_is_none_is_refused_before_anything_is_asked(option: str, share: str) -> None:
    result = load("http://127.0.0.1:1", "--find-rate", option, share)
    assert result.exit_code == 2
    assert f"{option}: {share!r} is not a share" in result.stderr
    assert "95% or 0.95" in result.stderr


@pytest.mark.parametrize("share", ["0.9", "90%", "90 %"])
def test_a_share_is_written_as_a_number_or_in_percent(share: str) -> None:
    result = load("http://127.0.0.1:1", "--check", share)
    assert "does not answer" in result.stderr


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--check", "0.9"), "--check"),
        (("--clients", "3"), "--clients"),
        (("--metrics", "none"), "--metrics"),
        (("--ramp", "5/s..80/s"), "--ramp"),
        (("--ray", "auto"), "--ray"),
        (("--rate", "5/s,10/s"), "--rate"),
    ],
)
def test_what_a_search_would_ignore_is_refused(args: tuple[str, ...], named: str) -> None:
    result = load("http://127.0.0.1:1", "--find-rate", *args)
    assert result.exit_code == 2
    assert f"--find-rate and {named} " in result.stderr


@pytest.fixture
def broken_trace(tmp_path: Path) -> str:
    """A workload of a trace whose third line is no request."""
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,5,5\nx,y,z\n")
    workload = tmp_path / "trace.yaml"
    workload.write_text("name: t\ntrace: {file: trace.csv, format: azure}\n")
    return str(workload)


@pytest.mark.parametrize("how", [(), ("--workers", "2")])
def test_a_broken_trace_is_the_inputs_fault(
    url: str, broken_trace: str, how: tuple[str, ...]
) -> None:
    result = load(url, "--workload", broken_trace, *how)
    assert result.exit_code == 2
    assert "line 3" in result.stderr


def test_a_trace_has_no_rate_to_be_found(url: str, broken_trace: str) -> None:
    result = load(url, "--workload", broken_trace, "--find-rate")
    assert result.exit_code == 2
    assert "forebay record fit" in result.stderr


def test_nobody_listening_is_the_environments_fault() -> None:
    result = load("http://127.0.0.1:1", "--rate", "1/s")
    assert result.exit_code == 3
    assert "does not answer" in result.stderr


def test_the_workloads_are_listed_and_shown() -> None:
    listed = CliRunner().invoke(app, ["workloads"])
    assert "launch-spike" in listed.stdout
    shown = CliRunner().invoke(app, ["workloads", "chat"])
    assert shown.stdout.startswith("name: chat")
    assert CliRunner().invoke(app, ["workloads", "nope"]).exit_code == 2


def test_metrics_that_cannot_be_read_are_named_before_anything_is_offered(url: str) -> None:
    result = load(url, "--rate", "1/s", "--for", "1h", "--metrics", "127.0.0.1:1/metrics")
    assert result.exit_code == 2
    assert "--metrics: http://127.0.0.1:1/metrics cannot be read" in result.stderr


class Trials:
    """Runs of a search: so many that serve all, then one that ends as a test wants."""

    def __init__(self, fine: int, then: Callable[[LoadRun], LoadRun]) -> None:
        self._left = fine
        self._then = then

    def __call__(self, plan: LoadPlan) -> LoadRun:
        client = ClientFacts(lag_p50_s=0.0, lag_p99_s=0.0, lag_max_s=0.0, planned=1, begun=1)
        served = RequestRecord(
            index=0, intended_s=1.0, sent_s=1.0, ended_s=1.2, status=200, outcome="ok",
            first_token_s=1.1, last_token_s=1.2, tokens_out=2,
        )  # fmt: skip
        run = LoadRun(
            records=[served], client=client, validity=judge(client), started_at=0.0,
            duration_s=2.0, workload=plan.workload, salt="s",
        )  # fmt: skip
        self._left -= 1
        return run if self._left >= 0 else self._then(run)


def stopped(run: LoadRun) -> LoadRun:
    return replace(run, client=replace(run.client, interrupted=True))


def invalid(run: LoadRun) -> LoadRun:
    return replace(run, validity=judge(replace(run.client, stall_max_s=1.0)))


@pytest.mark.parametrize("end", [stopped, invalid])
def test_a_search_that_ends_early_keeps_its_trials(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[LoadRun], LoadRun]
) -> None:
    monkeypatch.setattr(rate_finding, "run_load", Trials(2, end))
    result = load(url, "--find-rate", "--rate", "4/s", "--output", str(tmp_path))
    assert result.exit_code == 3
    assert "6.00/s (between 6.00 or more); not finished: " in result.stdout
    kept = json.loads((tmp_path / "find-rate.json").read_text())
    assert [trial["rate"] for trial in kept["trials"]] == [4.0, 6.0]
    assert (kept["rate"], kept["high"]) == (6.0, None)


def test_a_share_that_is_not_enough_does_not_read_as_if_it_were() -> None:
    run = Trials(1, stopped)(LoadPlan(endpoint=Endpoint(url="http://h", model="m"), workload=SPEC))
    served = run.records[0]
    missed = replace(served, outcome="failed", first_token_s=None)
    mixed = replace(run, records=[*[served] * 95, missed])
    trial = rate_finding.judge(mixed, Next(1.0, True), rate_finding.Goal())
    assert trial.reason == "98.96% good, 99.0% wanted"
    assert good(gather_evidence(mixed.records, duration_s=2.0, slo_ttft_s=1.0)) == "98.9 % good"
