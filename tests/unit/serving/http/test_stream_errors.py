"""Errors after a stream has begun: what its clients are told, and what is learned and counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from gate_world import CHAT, STOP, FakeEngineRequest, FakeOutput, FakeParams, World

from forebay.observability import catalogue
from forebay.observability.metric import Metric
from forebay.policies.forecast.error_bound import ErrorBound
from forebay.policies.request import INTERACTIVE
from forebay.serving.engine import Telemetry
from forebay.serving.http import App, ErrorShaper, Message, Receive, Scope, Send

CHATS, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
DONE = b"data: [DONE]\n\n"
DIED = {"message": "died", "type": "InternalServerError", "param": None, "code": 500}
RESHAPED = {"message": "died", "type": "server_error", "param": None, "code": None}


async def sent_by(
    app: App, path: str, world: World | None = None
) -> tuple[list[Message], Exception | None]:
    """All that a gate sends for a request to `app`, and what is raised beside it."""
    world, sent = world or World(app), list[Message]()
    body = json.dumps({**CHAT, "input": "hi"}).encode()
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not pending:
            await asyncio.Event().wait()
        return pending.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    try:
        await world.gate(scope, receive, send)
    except RuntimeError as error:
        return sent, error
    return sent, None


def streaming(*events: bytes, raises: bool = False, headers: Any = SSE, ends: bool = False) -> App:
    """An app that streams these; then the response ends, or it raises (also after the end)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if ends or not raises:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if raises:
            raise RuntimeError("secret")

    return app


def data_of(event: bytes) -> Any:
    head, _, payload = event.partition(b"data: ")
    assert head in (b"", b"event: error\n")
    assert payload.endswith(b"\n\n")
    return json.loads(payload)


@pytest.mark.parametrize("path", [CHATS, COMPLETIONS])
@pytest.mark.parametrize("after", [b"", DONE])
async def test_vllms_error_within_a_stream_gets_openais_shape(path: str, after: bytes) -> None:
    event = b"data: %b\n\n" % json.dumps({"error": DIED}).encode()
    sent, _ = await sent_by(streaming(b"data: x\n\n", event + after, DONE), path)
    error = sent[2]["body"]
    assert error.endswith(b"\n\n" + after)
    assert data_of(error.removesuffix(after)) == {"type": "error", "error": RESHAPED}
    assert [m["body"] for m in sent[3:]] == [DONE, b""]


async def test_vllms_error_within_a_stream_of_messages_gets_anthropics_shape() -> None:
    said = {"type": "error", "error": {"type": "internal_error", "message": "died"}}
    event = b"event: error\ndata: %b\n\n" % json.dumps(said).encode()
    begun = b"event: message_start\ndata: {}\n\n"
    sent, _ = await sent_by(streaming(begun, event), MESSAGES)
    assert sent[1]["body"] == begun
    assert sent[2]["body"].startswith(b"event: error\n")
    expected = {"type": "error", "error": {"type": "api_error", "message": "died"}}
    assert data_of(sent[2]["body"]) == expected


@pytest.mark.parametrize("path", [CHATS, COMPLETIONS, RESPONSES, MESSAGES])
async def test_a_stream_whose_app_raises_ends_with_an_error_event(path: str) -> None:
    begun = b"event: begun\ndata: {}\n\n"
    sent, raised = await sent_by(streaming(begun, raises=True), path)
    assert str(raised) == "secret", "nobody learns of the fault"
    last = sent[-1]
    assert [m["body"] for m in sent[1:-1]] == [begun]
    assert last["body"].startswith(b"event: error\n")
    assert not last["more_body"]
    assert b"secret" not in last["body"]
    said = data_of(last["body"])
    assert said["type"] == "error"
    if path == MESSAGES:
        assert set(said) == {"type", "error"}
        assert set(said["error"]) == {"type", "message"}
        assert said["error"]["type"] == "api_error"
        return
    assert (said["error"]["type"], said["error"]["code"]) == ("server_error", "replica_failed")
    if path == RESPONSES:
        assert (said["code"], said["param"]) == ("replica_failed", None)
        assert said["message"] == said["error"]["message"]


async def test_nothing_is_added_to_a_response_that_has_ended_or_is_no_stream() -> None:
    sent, raised = await sent_by(streaming(DONE, raises=True, ends=True), RESPONSES)
    assert raised is not None
    assert [m["body"] for m in sent[1:]] == [DONE, b""]
    whole = streaming(b'{"id"', raises=True, headers=[(b"content-type", b"application/json")])
    sent, raised = await sent_by(whole, RESPONSES)
    assert raised is not None
    assert [m["body"] for m in sent[1:]] == [b'{"id"']


async def test_openais_client_raises_what_a_cut_stream_of_responses_says() -> None:
    import httpx2
    import openai

    created = b'event: response.created\ndata: {"type": "response.created", "response": {}}\n\n'
    sent, _ = await sent_by(streaming(created, raises=True), RESPONSES)
    body = b"".join(m["body"] for m in sent[1:])
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=body))
    seen: list[str] = []
    with openai.OpenAI(
        base_url="http://x/v1", api_key="none", http_client=httpx2.Client(transport=transport)
    ) as client:
        stream = client.responses.create(model="m", input="hi", stream=True)
        with pytest.raises(openai.APIError) as raised:
            seen.extend(event.type for event in stream)
    assert seen == ["response.created"]
    assert raised.value.code == "replica_failed"


def numbered(number: int, **fields: Any) -> bytes:
    """An event of the Responses API, as vLLM writes it: one a message."""
    said = {"type": "response.output_text.delta", **fields, "sequence_number": number}
    return b"event: %b\ndata: %b\n\n" % (str(said["type"]).encode(), json.dumps(said).encode())


QUOTING = numbered(11, delta='"sequence_number": 70\ndata: {"sequence_number": 80}')


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((numbered(0), numbered(1)), 2),
        ((QUOTING,), 12),
        ((numbered(3) + numbered(4),), 5),
        ((b"event: begun\ndata: {}\n\n",), 0),
        ((b"data: [1]\n\n",), 0),
    ],
)
async def test_an_error_within_a_stream_of_responses_has_the_number_that_comes_next(
    events: tuple[bytes, ...], expected: int
) -> None:
    sent, _ = await sent_by(streaming(*events, raises=True), RESPONSES)
    assert data_of(sent[-1]["body"])["sequence_number"] == expected


async def test_a_second_error_of_a_stream_is_numbered_after_the_first() -> None:
    event = b"event: error\ndata: %b\n\n" % json.dumps({"error": DIED}).encode()
    sent, _ = await sent_by(streaming(numbered(7), event, raises=True), RESPONSES)
    assert [data_of(m["body"])["sequence_number"] for m in sent[2:]] == [8, 9]


async def test_an_error_event_of_responses_is_one_to_openais_own_model() -> None:
    from openai.types.responses import ResponseErrorEvent

    sent, _ = await sent_by(streaming(numbered(0), raises=True), RESPONSES)
    event = ResponseErrorEvent.model_validate(data_of(sent[-1]["body"]))
    assert (event.code, event.sequence_number) == ("replica_failed", 1)


async def test_other_errors_within_streams_are_not_numbered() -> None:
    sent, _ = await sent_by(streaming(numbered(0), raises=True), CHATS)
    assert "sequence_number" not in data_of(sent[-1]["body"])


async def test_a_token_is_sent_on_as_it_came() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    shaper = ErrorShaper(send, CHATS)
    await shaper.send({"type": "http.response.start", "status": 200, "headers": SSE})
    await shaper.send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
    token = {"type": "http.response.body", "body": b'data: {"id": "error"}\n\n', "more_body": True}
    sending = shaper.send(token)
    assert sending.cr_code is send.__code__, "a coroutine of its own"  # type: ignore[attr-defined]
    await sending
    assert sent[-1] is token


def failing(
    world: Callable[[], World], *outputs: FakeOutput, events: tuple[bytes, ...] = ()
) -> App:
    """An app whose one answer gets these outputs of the engine, and then streams these events."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        world().tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        for output in outputs:
            world().clock.now += 0.5
            world().tap.on_step([output], None)
        await streaming(*events)(scope, receive, send)

    return app


async def test_a_stream_that_an_error_ended_is_an_error_and_no_pace() -> None:
    events = (b"data: x\n\n", b"data: %b\n\n" % json.dumps({"error": DIED}).encode(), DONE)
    outputs = [FakeOutput("r", [7]), FakeOutput("r", [7]), FakeOutput("r", [], "error")]
    world = World(failing(lambda: world, *outputs, events=events))
    await sent_by(world.app, CHATS, world)
    assert world.telemetry.by_second_label(catalogue.FINISHED, INTERACTIVE) == {"error": 1}
    sampled = Observed(world.telemetry).values
    assert catalogue.TPOT not in sampled
    assert sampled[catalogue.TTFT] == [0.5]
    assert world.admission.ledger.idle


async def test_a_stream_that_ended_well_is_no_error() -> None:
    outputs = [FakeOutput("r", [7]), FakeOutput("r", [7], STOP)]
    world = World(failing(lambda: world, *outputs, events=(b"data: x\n\n", DONE)))
    await sent_by(world.app, CHATS, world)
    assert world.telemetry.by_second_label(catalogue.FINISHED, INTERACTIVE) == {"ok": 1}
    assert Observed(world.telemetry).values[catalogue.TPOT] == [0.5]


@pytest.mark.parametrize("reason", ["error", "abort"])
async def test_what_ends_without_a_token_is_taken_for_no_first_token(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    world = World(failing(lambda: world, FakeOutput("r", [], reason)))
    late: list[Any] = []
    monkeypatch.setattr(ErrorBound, "add", lambda *args: late.append(args))
    await sent_by(world.app, CHATS, world)
    assert late == []
    assert catalogue.TTFT not in Observed(world.telemetry).values
    assert world.telemetry.total(catalogue.PROMPT_TOKENS) == 0
    assert world.telemetry.by_second_label(catalogue.FINISHED, INTERACTIVE) == {"error": 1}
    assert world.admission.ledger.idle
    world.admission.check_integrity()


class Observed:
    """A backend that keeps what was sampled."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.values: dict[Metric, list[float]] = {}
        telemetry.flush(self, {})

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None: ...

    def set(self, metric: Metric, value: float) -> None: ...

    def observe(self, metric: Metric, labels: tuple[str, ...], values: list[float]) -> None:
        self.values[metric] = values
