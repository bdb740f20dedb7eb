"""Finding out what an endpoint is, before it is loaded."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from forebay.load.client import EndpointError, ProbeTarget, look_at
from forebay.load.results import metrics_of
from forebay.wire import base_url


class Stub:
    """An endpoint whose answers a test sets, and what it was asked."""

    def __init__(self) -> None:
        self.models: list[str] = ["m"]
        self.tokenizes = True
        self.takes_ignore_eos = True
        self.status = 200
        self.key = ""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    def answer(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append((path, body))
        if key != self.key:
            return 401, {"error": {"message": "wrong key"}}
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.models]}
        if path == "/tokenize":
            return self._tokenize(body) if self.tokenizes else (404, {"detail": "Not Found"})
        if "ignore_eos" in body and not self.takes_ignore_eos:
            return 400, {"error": {"message": "unknown field ignore_eos"}}
        return self.status, {"choices": [{}]} if self.status == 200 else {
            "error": {"message": "no"}
        }

    def _tokenize(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Words of up to five letters are one token each, without a space before up to four."""
        if "messages" in body:  # 3 tokens of template around each message, 2 at the start
            texts = [message["content"] for message in body["messages"]]
            return 200, {"count": 2 + sum(3 + len(self._tokens(text)) for text in texts)}
        tokens = self._tokens(body["prompt"])
        return 200, {"count": len(tokens), "token_strs": tokens}

    def _tokens(self, text: str) -> list[str]:
        tokens: list[str] = []
        for number, line in enumerate(text.split("\n")):
            tokens += ["\u010a"] if number else []
            for place, word in enumerate(line.split()):
                space, most = ("\u0120", 5) if place else ("", 4)
                pieces = [word] if len(word) <= most else [word[:3], word[3:]]
                tokens += [space + pieces[0], *pieces[1:]]
        return tokens


@pytest.fixture
def stub() -> Iterator[Stub]:
    endpoint = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self._respond(json.loads(self.rfile.read(length)))

        def _respond(self, body: dict[str, Any]) -> None:
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = endpoint.answer(self.path, key, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield endpoint
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000/v1/", "http://h:8000"),
        ("http://h:8000", "http://h:8000"),
        ("h:8000", "http://h:8000"),
        ("https://h/api/v1", "https://h/api"),
    ],
)
def test_urls_as_people_write_them(url: str, base: str) -> None:
    assert base_url(url) == base


def test_the_only_model_is_found(stub: Stub) -> None:
    assert look_at(ProbeTarget(url=f"{stub.url}/v1")).model == "m"


def test_words_and_template_come_from_the_endpoints_own_tokenizer(stub: Stub) -> None:
    endpoint = look_at(ProbeTarget(url=stub.url))
    assert endpoint.words is not None
    assert "river" not in endpoint.words
    assert len(endpoint.words) > 50
    for word in endpoint.words:  # a message begins with any of them
        assert len(stub._tokens(word)) == len(stub._tokens(f"a {word}")) - 1 == 1
    assert (endpoint.first_overhead, endpoint.turn_overhead) == (5, 6)
    assert endpoint.lengths.startswith("exact")


def test_without_a_tokenizer_lengths_are_estimated_and_said_to_be(stub: Stub) -> None:
    stub.tokenizes = False
    endpoint = look_at(ProbeTarget(url=stub.url))
    assert endpoint.words is None
    assert endpoint.lengths.startswith("estimated: 4 bytes a token")


def test_a_declared_ratio_is_taken(stub: Stub) -> None:
    endpoint = look_at(ProbeTarget(url=stub.url, bytes_per_token=3.5))
    assert (endpoint.words, endpoint.bytes_per_token) == (None, 3.5)
    assert not any(path == "/tokenize" for path, _ in stub.asked)


def test_ignore_eos_is_left_out_where_it_is_refused(stub: Stub) -> None:
    assert look_at(ProbeTarget(url=stub.url)).exact_output
    stub.takes_ignore_eos = False
    assert not look_at(ProbeTarget(url=stub.url)).exact_output
    with pytest.raises(EndpointError, match="unknown field ignore_eos"):
        look_at(ProbeTarget(url=stub.url, exact_output=True))


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_endpoint_is_no_reason_to_stop(stub: Stub, status: int) -> None:
    stub.status = status
    assert look_at(ProbeTarget(url=stub.url)).model == "m"


def test_a_broken_endpoint_is(stub: Stub) -> None:
    stub.status = 500
    with pytest.raises(EndpointError, match="HTTP 500: no"):
        look_at(ProbeTarget(url=stub.url))


def test_a_wrong_key_says_which_option_to_use(stub: Stub) -> None:
    stub.key = "right"
    with pytest.raises(EndpointError, match="--api-key-env"):
        look_at(ProbeTarget(url=stub.url, headers={"Authorization": "Bearer wrong"}))
    assert (
        look_at(ProbeTarget(url=stub.url, headers={"Authorization": "Bearer right"})).model == "m"
    )


def test_several_models_are_listed_to_choose_from(stub: Stub) -> None:
    stub.models = ["one", "two"]
    with pytest.raises(EndpointError, match=r"--model: one, two"):
        look_at(ProbeTarget(url=stub.url))
    assert look_at(ProbeTarget(url=stub.url, model="two")).model == "two"


def test_nobody_there_is_said() -> None:
    with pytest.raises(EndpointError, match="does not answer"):
        look_at(ProbeTarget(url="http://127.0.0.1:1"))


def test_completions_need_no_tokenizer(stub: Stub) -> None:
    endpoint = look_at(ProbeTarget(url=stub.url, api="completions"))
    assert endpoint.lengths.startswith("exact: prompts are token ids")
    assert stub.asked[-1][1]["prompt"] == [300, 301]


@pytest.fixture
def no_http() -> Iterator[str]:
    """The address of something that speaks another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(b"SSH-2.0-not_a_web_server\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_what_speaks_no_http_does_not_answer(no_http: str) -> None:
    with pytest.raises(EndpointError, match="does not answer"):
        look_at(ProbeTarget(url=no_http))


def test_a_page_beside_the_endpoint_that_speaks_no_http_has_no_metrics(
    stub: Stub, no_http: str
) -> None:
    assert metrics_of(stub.url, [no_http]) is None
