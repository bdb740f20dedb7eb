"""`forebay top` against a service that answers what a real one does."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from forebay.cli import top
from forebay.cli.main import app
from forebay.observability.console import headline, is_loud, tables
from forebay.observability.status import ClassStatus, ReplicaStatus, fleet_status
from forebay.policies.scaling import Autoscaler, LimitConfig, ReplicaReading, ScalingConfig
from forebay.serving.control import fleet_status as fleet


def of_class(offered: float, shed: dict[str, float]) -> ClassStatus:
    return {
        "offered": offered, "retried": 0, "admitted": offered - sum(shed.values()), "finished": 0,
        "shed": shed, "queued": 1, "held": 0, "running": 2, "queued_tokens": 300,
        "predicted_ttft_s": 0.25, "budget_s": 1.0,
    }  # fmt: skip


def replica(name: str, offered: float, tokens: float, at_s: float = 0.0) -> ReplicaStatus:
    shed = {"ttft_budget": 3.0}
    return {
        "replica": name, "at_s": at_s, "draining": name == "b", "apart": name == "a",
        "classes": {"interactive": of_class(offered, shed)}, "tenants": {"acme": tokens},
        "prefill_rate": 9000.0, "seconds_per_token": 0.01, "slots": 64, "kv_tokens": 1000,
        "kv_usage": 0.5, "prompt_tokens": 100, "cached_tokens": 25,
        "output_tokens": tokens, "ttft_p50_s": 0.1, "ttft_p99_s": None,
        "late_p99": None, "late_p99_so_far": None,
        "prediction_error": 0.1, "prediction_bias": None,
        "start_s": {"image": 2.0, "weights": 30.0},
    }  # fmt: skip


def status(offered: float, tokens: float) -> dict[str, Any]:
    return fleet_status("chat", [replica("a", offered, tokens), replica("b", offered, tokens)])


class Handler(BaseHTTPRequestHandler):
    """What a service answers; with `key` set, only to who has it."""

    key: str | None = None

    def do_GET(self) -> None:
        asked = self.headers["Authorization"]
        allowed = self.key is None or asked == f"Bearer {self.key}"
        found = allowed and self.path == "/forebay/status"
        self.send_response(200 if found else 404 if allowed else 401)
        self.end_headers()
        if found:
            self.wfile.write(json.dumps(status(10, 40)).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*args: str, **env: str | None) -> Any:
    plain = {"COLUMNS": "200", "OPENAI_API_KEY": None}
    return CliRunner().invoke(app, ["top", *args], env={**plain, **env})


def test_one_look_names_replicas_classes_and_tenants(url: str) -> None:
    shown = run(f"{url}/v1", "--once")
    assert shown.exit_code == 0, shown.output
    for word in ("chat: 2 replicas", "interactive", "ttft_budget 6", "acme", "draining", "250 ms"):
        assert word in shown.stdout
    assert "ledger does not answer" in shown.stdout


def test_programs_get_json(url: str) -> None:
    assert json.loads(run(url, "--json").stdout)["classes"]["interactive"]["offered"] == 20


def test_nobody_there_is_the_environments_fault() -> None:
    shown = run("http://127.0.0.1:1", "--once")
    assert shown.exit_code == 3
    assert "does not answer" in shown.stderr


@pytest.fixture(params=[b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def broken(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of something that says the same to whoever connects, and hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(request.param)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_what_is_no_http_is_an_error_like_any_other(broken: str) -> None:
    shown = run(broken, "--once")
    assert (shown.exit_code, shown.stdout) == (3, "")
    assert "does not answer as Forebay does: " in shown.stderr
    assert isinstance(shown.exception, SystemExit)


def test_no_proxy_is_asked_which_would_be_shown_the_key(
    url: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies
    monkeypatch.setenv("http_proxy", broken)
    monkeypatch.delenv("no_proxy", raising=False)
    assert CliRunner().invoke(app, ["top", url, "--once", "--json"]).exit_code == 0


def test_whoever_watches_waits_for_a_service_that_answers_nonsense(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(3))

    def sleep(seconds: float) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("forebay.cli.top.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        top._watch(f"{broken}/forebay/status", None, status(10, 40), 1.0)


def test_it_waits_for_longer_than_the_service_waits_for_its_parts() -> None:
    assert top._TIMEOUT_S > fleet._ANSWER_S + fleet._LOG_S


@pytest.mark.parametrize("written", ["{}", "{}/", "{}/v1"])
def test_an_address_needs_no_scheme(url: str, written: str) -> None:
    address = written.format(url.removeprefix("http://"))
    shown = run(address, "--once")
    assert shown.exit_code == 0, shown.stderr


def test_what_is_no_address_is_the_users_input() -> None:
    shown = run("ftp://127.0.0.1", "--once")
    assert (shown.exit_code, shown.stderr) == (
        2,
        "forebay: not an http(s) URL: 'ftp://127.0.0.1'\n",
    )


def test_a_key_may_end_in_the_line_break_of_its_file(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "key", "fb_right")
    assert run(url, "--once", OPENAI_API_KEY="fb_right\n").exit_code == 0


def test_a_key_that_no_header_may_have_is_not_repeated(url: str) -> None:
    refused = run(url, "--once", OPENAI_API_KEY="fb_secret\nX-Other: 1")
    assert refused.exit_code == 2
    assert "the variable OPENAI_API_KEY holds a line break" in refused.stderr
    assert "fb_secret" not in refused.output


def test_a_key_that_is_missing_or_wrong_is_named_by_its_variable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "key", "fb_right")
    without = run(url, "--once")
    assert without.exit_code == 3
    assert "asks for a key (HTTP 401): put one into the variable OPENAI_API_KEY" in without.stderr
    assert "--api-key-env" in without.stderr
    wrong = run(url, "--once", "--api-key-env", "MY_KEY", MY_KEY="fb_wrong")
    assert wrong.exit_code == 3
    assert "refuses the key in MY_KEY (HTTP 401); --api-key-env names another" in wrong.stderr
    assert "fb_wrong" not in wrong.stderr
    assert run(url, "--once", OPENAI_API_KEY="fb_right").exit_code == 0


def rates(now: list[ReplicaStatus], before: list[ReplicaStatus]) -> tuple[str, list[str]]:
    """Requests offered per second in all, and tokens/s of each replica, as shown."""
    classes, replicas, *_ = tables(fleet_status("chat", now), fleet_status("chat", before))
    return classes.rows[0][1], [row[6] for row in replicas.rows]


def test_rates_are_growth_over_the_replicas_own_time_and_never_negative() -> None:
    now = [replica("a", 14, 20, 12.0), replica("b", 14, 60, 702.5)]
    before = [replica("a", 10, 40, 10.0), replica("b", 10, 40, 700.0)]
    # 4 more in 2 s and 4 more in 2.5 s; a has begun anew, so its tokens have too.
    assert rates(now, before) == ("3.6", ["0.0", "8.0"])


def test_a_replica_that_goes_or_comes_distorts_no_rate() -> None:
    before = [replica("a", 10, 40, 10.0), replica("gone", 900, 900, 5.0)]
    now = [replica("a", 14, 60, 12.0), replica("new", 500, 500, 6.0)]
    assert rates(now, before) == ("2.0", ["10.0", "-"])


def test_a_replica_that_tells_nothing_new_has_no_rate() -> None:
    told = [replica("a", 10, 40, 10.0)]
    assert rates(told, told) == ("-", ["-"])


def test_a_fleet_of_nobody_is_shown() -> None:
    shown = list(tables(fleet_status("chat", []), None))
    assert [table.rows for table in shown] == [(), ()]


def test_a_fleet_that_may_not_grow_says_so_and_how_many_are_missing() -> None:
    scaler = Autoscaler(ScalingConfig(), LimitConfig(1, 1))
    for second in range(20):
        reading = ReplicaReading(second, 3_000.0 * second, 0, 0, 0, 0, 1_000, 100, 1_000)
        record = scaler.decide({"a": reading}, ["a"], 1, float(second)).plain()
    told = fleet_status("chat", [replica("a", 1, 1)], [record])
    assert told["missing"] == 3
    assert "3 MISSING" in headline(told)
    scaling = next(table for table in tables(told, None) if table.title == "Scaling")
    assert scaling.rows[0][scaling.columns.index("wanted")] == "4"
    assert "max" in scaling.rows[0][-1]


def test_a_fleet_whose_replicas_do_not_start_or_do_not_report_says_so() -> None:
    scaler = Autoscaler(ScalingConfig(), LimitConfig(1, 4), cold_start_s=20.0)
    for second in range(100):
        record = scaler.decide({}, ["a"], 3, float(second)).plain()
        record["overdue"] = 2
    told = fleet_status("chat", [replica("a", 1, 1)], [record])
    assert is_loud(told)
    assert "2 OVERDUE: asked for long ago and not started" in headline(told)
    assert "BLIND: too few replicas report; the fleet is held" in headline(told)
    assert not is_loud(fleet_status("chat", [replica("a", 1, 1)]))


def test_the_phases_of_each_start_are_shown() -> None:
    starts = [t for t in tables(status(1, 1), None) if t.title == "Starts"]
    assert starts[0].columns == ("replica", "image", "weights")
    assert starts[0].rows[0] == ("a", "2.0 s", "30.0 s")


def test_a_phase_that_any_replica_tells_is_shown_in_its_place() -> None:
    told = status(1, 1)
    first, second = told["replicas"]
    first["start_s"] = {"image": 2.0, "weights": 30.0, "warm_up": 5.0, "first_answer": 9.0}
    second["start_s"] = {"node": 1_200.0, "image": 2.0, "weights": 30.0, "warm_up": 5.0}
    (starts,) = [table for table in tables(told, None) if table.title == "Starts"]
    assert starts.columns == ("replica", "node", "image", "weights", "warm up", "first answer")
    assert starts.rows[0] == ("a", "-", "2.0 s", "30.0 s", "5.0 s", "9.0 s")
