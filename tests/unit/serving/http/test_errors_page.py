"""docs/reference/errors.md names every error code that a client can get, with its status."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest

from forebay.policies.request import ShedReason
from forebay.serving.http import COSTED, retry_headers
from forebay.serving.http.routes import FREE, TOKENIZER
from forebay.wire import error_body

ROOT = Path(__file__).parents[4]
SERVING = ROOT / "src/forebay/serving"
OURS = [file for file in SERVING.rglob("*.py") if file.parent.name != "emulated"]
PAGE = (ROOT / "docs/reference/errors.md").read_text()
# Of a call, where the status and the code stand.
PLACES = {"RequestRefusedError": (0, 2), "send_error": (1, 3), "fail": (0, 2)}


def codes_in(file: Path) -> Iterator[tuple[int, str]]:
    """Each status with its code that a file of the serving layer writes out."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called in PLACES and len(node.args) > PLACES[called][1]:
            status, code = (node.args[place] for place in PLACES[called])
            if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                yield status.value, code.value  # type: ignore[misc]


def test_the_page_has_every_code_and_no_other() -> None:
    of_forebay = {one for file in OURS for one in codes_in(file)}
    shed = {(429, reason) for reason in get_args(ShedReason)}
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| .+ \| .+ \|$", PAGE, re.M)
    assert len(of_forebay) > 10, "the calls are not found any more"
    assert {(int(status), code) for status, code in rows} == of_forebay | shed
    assert len(rows) == len(set(rows))


def test_the_page_names_the_codes_of_emulated_engines() -> None:
    emulated = {code for file in SERVING.glob("emulated/*.py") for _, code in codes_in(file)}
    assert emulated - {code for code in emulated if f"`{code}`" in PAGE} == set()


def test_the_page_names_every_path_that_is_open() -> None:
    table = PAGE[PAGE.index("## Paths") :]
    paths = COSTED | FREE | TOKENIZER
    assert {path for path in paths if f"`{path}`" in table} == paths


class Starting(BaseHTTPRequestHandler):
    """Says twice that a start takes a while more, and answers then."""

    asked = 0
    left_s = 180.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        early = self.asked <= 2
        body = error_body(503, "starting", "starting") if early else b'{"id": "x", "choices": []}'
        self.send_response(503 if early else 200)
        for name, value in retry_headers(self.left_s) if early else ():
            self.send_header(name.decode(), value.decode())
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Host and port of a service that starts."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr(Starting, "asked", 0)
    server = HTTPServer(("127.0.0.1", 0), Starting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_s_client_waits_as_it_is_told_beyond_two_minutes(
    starting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    waits: list[float] = []
    monkeypatch.setattr(Starting, "left_s", 180.0)
    exec(program.replace("localhost:8000", starting), names)
    monkeypatch.setattr(names["time"], "sleep", waits.append)
    with names["client"]:
        answer = names["ask"](model="m", messages=[{"role": "user", "content": "Hello"}])
    assert answer.id == "x"
    assert (waits, Starting.asked) == ([180.0, 180.0], 3)


@pytest.mark.parametrize("longest_s", [60, 120])  # Python's 2.x and 3.x
@pytest.mark.parametrize("left_s", [63.0, 119.0])
def test_openais_client_by_itself_waits_for_a_start_of_up_to_two_minutes(
    starting: str, monkeypatch: pytest.MonkeyPatch, left_s: float, longest_s: int
) -> None:
    import openai

    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        Starting.left_s -= seconds

    monkeypatch.setattr(openai._base_client, "MAX_RETRY_AFTER_DELAY", longest_s)
    monkeypatch.setattr("openai._base_client.time.sleep", sleep)
    monkeypatch.setattr(Starting, "left_s", left_s)
    with openai.OpenAI(base_url=f"http://{starting}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}]
        )
    assert answer.id == "x"
    assert waits == [pytest.approx(left_s / 2)] * 2
