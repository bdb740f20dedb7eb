"""The gate as a client sees it, in front of a stand-in for vLLM's app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from gate_world import (
    CHAT,
    CONTEXT,
    STOP,
    FakeEngineRequest,
    FakeOutput,
    FakeParams,
    World,
    responding,
    serving,
)

from forebay.engine_model import GIVES_WAY, IN_PARTS
from forebay.observability import catalogue
from forebay.policies.quotas import Charge
from forebay.policies.request import BATCH, INTERACTIVE, Admitted, Cost, RequestShape
from forebay.policies.routing import OwnPrefixes
from forebay.serving.engine import CURRENT_TICKET
from forebay.serving.engine.engine_hooks import UnadmittedError
from forebay.serving.gate import gate
from forebay.serving.http import Message, Receive, Scope, Send, body_reader, retry_headers
from forebay.serving.names import STATUS_PATH
from forebay.spec.tenants import key_hash, new_key

COMPLETIONS = "/v1/chat/completions"


async def test_an_admitted_request_is_answered_and_leaves_nothing_behind() -> None:
    world = serving()
    answer = await world.post("/v1/chat/completions", CHAT)
    assert (answer.status, answer.body) == (200, b"data: x\n\n")
    assert not world.admission.ledger.tickets
    assert world.telemetry.total(catalogue.ADMITTED) == 1
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "ok")] == 1


async def test_priority_salt_and_rank_are_the_taps_whatever_the_client_sent() -> None:
    world = serving()
    await world.post("/v1/completions", {"prompt": "a", "priority": -5, "cache_salt": "mine"})
    await world.post("/v1/completions", {"prompt": "a"}, headers={"x-forebay-class": "batch"})
    assert [(r.cache_salt, r.data_parallel_rank) for r in world.seen] == [(None, None)] * 2
    assert all(r.priority >= 0 for r in world.seen)


async def test_what_the_scheduler_is_told_is_the_taps_whatever_the_client_sent() -> None:
    world = serving()
    told = []
    for class_name, tokens in ((BATCH, 10), (INTERACTIVE, 10), (INTERACTIVE, 3_000)):
        shape = RequestShape(prompt_bytes=0, prompt_ids=tokens, max_tokens=1)
        decision = world.admission.decide(world.admission.costs.price(shape), class_name, 0.0)
        assert isinstance(decision, Admitted)
        CURRENT_TICKET.set(decision.ticket)
        lies = {IN_PARTS: tokens == 10, GIVES_WAY: class_name == INTERACTIVE}
        params = FakeParams(1, extra_args={"mine": 1, **lies})
        world.tap.on_add(FakeEngineRequest(f"{class_name} {tokens}", [1] * tokens, params))
        told.append(params.extra_args)
    CURRENT_TICKET.set(None)
    assert told == [{"mine": 1, GIVES_WAY: True}, {"mine": 1}, {"mine": 1, IN_PARTS: True}]


async def test_nothing_reaches_the_engine_without_a_ticket() -> None:
    world = serving()
    assert CURRENT_TICKET.get() is None
    with pytest.raises(UnadmittedError):
        world.tap.on_add(FakeEngineRequest("x", [1], FakeParams(1)))


async def test_a_class_that_nobody_knows_is_refused_and_counts_as_none() -> None:
    world = serving()
    answer = await world.post("/v1/chat/completions", CHAT, headers={"x-forebay-class": "batsch"})
    assert (answer.status, answer.error["param"]) == (400, "x-forebay-class")
    assert not world.seen
    assert world.telemetry.total(catalogue.OFFERED) == 0


async def test_a_refusal_is_a_plain_429_with_reason_and_retry_after() -> None:
    world = serving()
    world.admission.ledger.open((await _ticket(world, prefill=5_000)), expected_output=10)
    answer = await world.post("/v1/chat/completions", CHAT)
    assert answer.status == 429
    assert answer.error["type"] == "rate_limit_error"
    assert answer.error["code"] == "ttft_budget"
    assert int(answer.headers["retry-after"]) >= 1
    assert int(answer.headers["retry-after-ms"]) > 0
    assert not world.seen, "a refused request reached the engine"
    assert world.telemetry.totals[catalogue.SHED, (INTERACTIVE, "ttft_budget")] == 1


async def _ticket(world: World, prefill: int) -> Any:
    from forebay.policies.request import Cost, Ticket

    return Ticket(INTERACTIVE, 0, Cost(40, prefill, 10, 10), world.clock(), 1.0, 0.1)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, {"retry-after": "1", "retry-after-ms": "200"}),
        (2.3, {"retry-after": "3", "retry-after-ms": "2300"}),
        (59.5, {"retry-after": "60", "retry-after-ms": "59500"}),
        (60.0, {"retry-after": "60", "retry-after-ms": "30000"}),
        (90.0, {"retry-after": "90", "retry-after-ms": "45000"}),
        (119.9, {"retry-after": "120", "retry-after-ms": "59950"}),
        (120.0, {"retry-after": "120", "x-should-retry": "false"}),
        (3600.0, {"retry-after": "3600", "x-should-retry": "false"}),
    ],
)
def test_retry_headers(seconds: float, expected: dict[str, str]) -> None:
    assert {k.decode(): v.decode() for k, v in retry_headers(seconds)} == expected


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "bad_json", None),
        (b"\xff\xfe{}", "bad_utf8", None),
        (b"[1]", "bad_json", None),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "body_too_large", None),
        (b'{"a":' * 1200 + b"1" + b"}" * 1200, "too_deep", None),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "too_deep", None),
        (b'{"prompt": "x", "max_tokens": -1}', "out_of_range", "max_tokens"),
        (b'{"prompt": "x", "max_tokens": 999999999}', "out_of_range", "max_tokens"),
        (b'{"prompt": "x", "n": 5}', "out_of_range", "n"),
        (b'{"prompt": "x", "n": 0}', "out_of_range", "n"),
        (b'{"prompt": ["a", "b", "c"], "n": 2}', "out_of_range", "n"),
        (b'{"prompt": ["a", "b", "c", "d", "e"]}', "out_of_range", "prompt"),
    ],
)
async def test_impossible_input_is_refused_before_the_engine(
    body: bytes, code: str, param: str | None
) -> None:
    world = serving()
    answer = await world.post("/v1/completions", body)
    assert answer.status in (400, 413)
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert not world.seen
    assert not world.admission.ledger.tickets


async def test_a_prompt_that_no_tokenizer_could_fit_is_refused() -> None:
    world = serving()
    ids = await world.post("/v1/completions", {"prompt": [1] * (CONTEXT + 1)})
    assert ids.status in (400, 413)
    assert not world.seen


async def test_body_over_its_limit_is_refused_by_its_declared_length() -> None:
    world = serving()
    answer = await world.post("/v1/completions", {}, headers={"content-length": "10001"})
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert not world.seen


async def test_wrong_content_type_is_refused() -> None:
    world = serving()
    answer = await world.post("/v1/completions", {}, headers={"content-type": "text/plain"})
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert not world.seen


@pytest.mark.parametrize("path", ["/nope", "/metrics", "/invocations", "/inference/v1/generate"])
async def test_closed_paths_are_404_in_openais_shape(path: str) -> None:
    world = serving()
    answer = await world.post(path, CHAT)
    assert (answer.status, answer.error["code"]) == (404, "unknown_path")
    assert not world.seen


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"detail": "Not Found"}', "Not Found"),
        (422, b'{"detail": [{"loc": ["body"]}]}', '[{"loc": ["body"]}]'),
        (500, b"Internal Server Error", "Internal Server Error"),
        (405, b"", "HTTP 405"),
        (400, b'{"error": {"message": "bad", "type": "x", "param": null, "code": 400}}', "bad"),
    ],
)
async def test_every_error_has_openais_shape(status: int, body: bytes, message: str) -> None:
    answer = await World(responding(status, body)).post("/tokenize", {})
    assert answer.status == status
    assert answer.error["message"] == message
    assert answer.headers["content-length"] == str(len(answer.body))


async def test_an_error_in_openais_shape_passes_unchanged() -> None:
    body = b'{"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}'
    assert (await World(responding(400, body)).post("/tokenize", {})).body == body


@pytest.mark.parametrize("head", [b"", b"event: error\n"])
async def test_an_error_as_first_event_of_a_stream_is_a_plain_error(head: bytes) -> None:
    error = b'{"error": {"message": "too long", "type": "x", "param": null, "code": 400}}'
    event = head + b"data: " + error + b"\n\n"
    answer = await World(responding(200, event + b"data: [DONE]\n\n")).post(
        "/v1/completions", {"prompt": "x", "stream": True}
    )
    assert answer.status == 400
    assert answer.error["message"] == "too long"


async def test_a_missed_deadline_aborts_and_says_so() -> None:
    aborted = asyncio.Event()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            aborted.set()
            raise

    world = World(never, deadline_s=0.01)
    answer = await world.post("/v1/chat/completions", CHAT)
    assert (answer.status, answer.error["code"]) == (503, "deadline_exceeded")
    assert "retry-after" in answer.headers
    assert aborted.is_set()
    assert not world.admission.ledger.tickets


async def test_the_deadline_counts_from_the_arrival() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    world = World(never, deadline_s=3600.0)

    async def spend(*_: Any) -> Charge:
        world.clock.now += 3600.0  # the fleet took its time
        return Charge(world.clock.now, 0)

    world.tenancy.spend = spend  # type: ignore[method-assign, assignment]
    answer = await world.post(COMPLETIONS, CHAT)
    assert (answer.status, answer.error["code"]) == (503, "deadline_exceeded")


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (COMPLETIONS, {"authorization": "Bearer nobody's"}, "invalid_api_key"),
        ("/nowhere", {}, "unknown_path"),
        (COMPLETIONS, {"content-type": "text/plain"}, "unsupported_media_type"),
    ],
)
async def test_who_is_refused_unread_cannot_go_on_sending_for_ever(
    tmp_path: Path, path: str, headers: dict[str, str], code: str
) -> None:
    key, file = new_key(), tmp_path / "tenants.yaml"
    file.write_text(json.dumps({"tenants": [{"name": "t", "key_hashes": [key_hash(key)]}]}))
    world = World(responding(200, b"OK"), tenants=str(file))
    headers = {"authorization": f"Bearer {key}", **headers}
    for body, closes in (({}, False), ({"transfer-encoding": "chunked"}, True)):
        answer = await world.post(path, CHAT, headers={**headers, **body})
        assert answer.error["code"] == code
        assert (answer.headers.get("connection") == "close") is closes


async def test_what_may_not_be_asked_for_is_not_looked_at_any_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To render and hash what is refused anyway would hold up every stream."""
    rendered: list[object] = []
    monkeypatch.setattr(gate, "prompt_of", rendered.append)
    world = serving(prefixes=OwnPrefixes())
    images = [{"type": "image"}] * 400
    body = {"messages": [{"role": "user", "content": images}], "max_tokens": 4}
    assert (await world.post(COMPLETIONS, body)).status == 400
    assert not rendered


async def test_scripts_of_any_page_may_read_refusals_and_when_to_come_back() -> None:
    world = serving()
    page = {"origin": "https://shop.example"}
    world.admission.draining = True
    refused = await world.post(COMPLETIONS, CHAT, headers=page)
    wrong = await world.post(COMPLETIONS, b"{", headers=page)
    for answer in (refused, wrong):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "retry-after-ms" in answer.headers["access-control-expose-headers"]
    elsewhere = await world.post(COMPLETIONS, CHAT)
    assert not [name for name in elsewhere.headers if name.startswith("access-control")]


async def test_what_vllm_allows_a_page_is_not_allowed_twice() -> None:
    names: list[bytes] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            names.extend(name for name, _ in message.get("headers", []))
            await send(message)

        await world.gate(scope, receive, noted)

    world = World(responding(400, b"{}", headers=[(b"access-control-allow-origin", b"*")]))
    page = {"origin": "https://shop.example"}
    assert (await world.post(COMPLETIONS, CHAT, headers=page, through=noting)).status == 400
    assert names.count(b"access-control-allow-origin") == 1
    assert names.count(b"access-control-expose-headers") == 1


@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_token_that_comes_as_the_deadline_passes_begins_no_answer_that_is_cut(
    goes_on: bool,
) -> None:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # As one of the app's tasks may, which is not cancelled yet.
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"data: 7", "more_body": True})
            if not goes_on:
                raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    world = World(late, deadline_s=0.01)
    answer = await world.post("/v1/chat/completions", CHAT)
    assert (answer.status, answer.error["code"]) == (503, "deadline_exceeded")
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "deadline")] == 1


async def test_a_missed_deadline_ends_in_the_engine_what_the_app_goes_on_waiting_for() -> None:
    answered = asyncio.Event()

    async def unfinished(scope: Scope, receive: Receive, send: Send) -> None:
        async def handler() -> None:
            for number in range(2):
                world.tap.on_add(FakeEngineRequest(f"r{number}", [1] * 10, FakeParams(4)))
            await answered.wait()

        # As vLLM's `with_cancellation`: to cancel a wait leaves alone what is waited for.
        await asyncio.wait([asyncio.ensure_future(handler())])

    world = World(unfinished, deadline_s=0.01)
    aborted: list[str] = []
    world.tap.abort = aborted.extend
    answer = await world.post("/v1/chat/completions", {**CHAT, "n": 2})
    answered.set()
    assert (answer.status, answer.error["code"]) == (503, "deadline_exceeded")
    assert aborted == ["r0", "r1"]
    assert world.admission.ledger.idle


async def test_an_answer_that_has_ended_is_not_aborted() -> None:
    world = serving()
    aborted: list[str] = []
    world.tap.abort = aborted.extend
    assert (await world.post("/v1/chat/completions", CHAT)).status == 200
    assert aborted == []


async def test_a_request_makes_no_more_answers_at_once_than_were_admitted() -> None:
    refused: list[str] = []

    async def greedy(scope: Scope, receive: Receive, send: Send) -> None:
        for number in range(3):
            try:
                world.tap.on_add(FakeEngineRequest(f"r{number}", [1] * 10, FakeParams(4)))
            except UnadmittedError as error:
                refused.append(str(error))
        for number in range(2):
            world.tap.on_step([FakeOutput(f"r{number}", [7], STOP)], None)
        world.tap.on_add(FakeEngineRequest("r9", [1] * 10, FakeParams(4)))  # a tool's next call
        world.tap.on_step([FakeOutput("r9", [7], STOP)], None)
        await responding(200, b"{}")(scope, receive, send)

    world = World(greedy)
    assert (await world.post("/v1/chat/completions", {**CHAT, "n": 2})).status == 200
    assert refused == ["request r2 reached the engine unadmitted"]
    assert world.admission.ledger.idle


async def test_a_service_with_a_limit_of_its_own_keeps_answers_within_it() -> None:
    caps: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = FakeEngineRequest("r", [1] * 10, FakeParams(4000, min_tokens=300))
        world.tap.on_add(request)
        caps.extend((request.sampling_params.max_tokens, request.sampling_params.min_tokens))
        world.tap.on_step([FakeOutput("r", [7], STOP)], None)
        await responding(200, b"{}")(scope, receive, send)

    world = World(app, most_tokens=50)
    await world.post("/v1/chat/completions", {"model": "m", "messages": []})
    assert caps == [50, 50]  # or vLLM's engine core would die of the request


async def test_who_asks_for_the_tokenizer_alone_waits_for_a_turn_and_few_may() -> None:
    going_on, inside, most = asyncio.Event(), 0, 0

    async def tokenizer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await going_on.wait()
        inside -= 1
        await responding(200, b"{}")(scope, receive, send)

    world = World(tokenizer)
    asked = [asyncio.ensure_future(world.post("/tokenize", {"prompt": "x"})) for _ in range(12)]
    refused = [await done for done in asyncio.as_completed(asked[9:])]
    assert [(one.status, one.error["code"]) for one in refused] == [(429, "tokenizer_busy")] * 3
    assert all("retry-after" in one.headers for one in refused)
    going_on.set()
    assert [(await one).status for one in asked[:9]] == [200] * 9
    assert most == 1


async def test_the_tokenizer_alone_is_not_given_more_than_a_context_may_hold() -> None:
    world = World(responding(200, b"{}"), max_body=1_000_000)
    fits, too_long = "x" * 60_000, "x" * 70_000
    assert (await world.post("/tokenize", {"prompt": fits})).status == 200
    assert (await world.post("/tokenize", {"prompt": too_long})).status == 413


async def test_a_body_for_a_probe_is_not_read() -> None:
    answer = await World(responding(405, b"{}")).post(
        "/health", b"x" * 50_000, headers={"content-type": "text/plain"}
    )
    assert answer.status == 405


async def test_after_the_first_token_no_deadline_cuts_the_answer() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        world.tap.on_step([FakeOutput("r", [7])], None)
        await _slow_after_first_byte(scope, receive, send)

    world = World(slow, deadline_s=0.01)
    answer = await world.post("/v1/chat/completions", CHAT)
    assert answer.body == b"first last"


async def test_a_stream_that_began_without_a_token_ends_at_the_deadline_and_says_so() -> None:
    async def promising(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        created = b"event: response.created\ndata: {}\n\n"
        await send({"type": "http.response.body", "body": created, "more_body": True})
        await asyncio.Event().wait()

    world = World(promising, deadline_s=0.01)
    answer = await world.post("/v1/responses", {"input": "x", "stream": True})
    begun, _, error = answer.body.partition(b"event: error\ndata: ")
    assert begun == b"event: response.created\ndata: {}\n\n"
    said = json.loads(error)
    assert (said["type"], said["error"]["code"]) == ("error", "deadline_exceeded")
    assert not world.admission.ledger.tickets
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "deadline")] == 1


async def test_a_whole_answer_may_take_longer_than_the_first_token_may() -> None:
    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        world.tap.on_step([FakeOutput("r", [7])], None)
        await _pass(0.05)
        world.tap.on_step([FakeOutput("r", [7], STOP)], None)
        await responding(200, b"{}")(scope, receive, send)

    world = World(whole, deadline_s=0.01)
    assert (await world.post("/v1/chat/completions", CHAT)).status == 200
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "ok")] == 1


async def _pass(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    passed: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


async def _slow_after_first_byte(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first ", "more_body": True})
    await _pass(0.05)
    await send({"type": "http.response.body", "body": b"last", "more_body": False})


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "_BODY_S", 0.02)
    world, sent = serving(), list[Message]()
    parts = [{"type": "http.request", "body": b'{"messages": [', "more_body": True}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await world.gate(
        {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}, receive, send
    )
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert world.telemetry.total(catalogue.OFFERED) == 0


async def test_a_client_that_leaves_releases_what_it_held() -> None:
    gone, started = asyncio.Event(), asyncio.Event()

    async def until_gone(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        started.set()
        assert (await receive())["type"] == "http.disconnect"

    world = World(until_gone)
    task = asyncio.create_task(world.post("/v1/chat/completions", CHAT, gone=gone))
    await started.wait()
    assert world.admission.ledger.queued_prefill == 10
    gone.set()
    await task
    assert not world.admission.ledger.tickets
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "disconnected")] == 1


def outcomes(world: World) -> dict[str, float]:
    return world.telemetry.by_second_label(catalogue.FINISHED, INTERACTIVE)


async def test_who_leaves_a_plain_request_before_its_first_token_has_left() -> None:
    async def vllm(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        assert (await receive())["type"] == "http.disconnect"
        await responding(200, b"null")(scope, receive, send)  # to nobody

    world, gone = World(vllm), asyncio.Event()
    gone.set()
    await world.post("/v1/chat/completions", CHAT, gone=gone)
    assert outcomes(world) == {"disconnected": 1}


@pytest.mark.parametrize(
    ("status", "outcome"), [(400, "rejected"), (404, "rejected"), (500, "error"), (503, "error")]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_vllm_answers_before_any_token_is_told_apart_by_its_status(
    status: int, outcome: str, stream: bool
) -> None:
    error = b'{"error": {"message": "m", "type": "x", "param": null, "code": %d}}' % status
    answer = responding(200, b"data: " + error + b"\n\n") if stream else responding(status, error)

    async def vllm(scope: Scope, receive: Receive, send: Send) -> None:
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        await answer(scope, receive, send)
        await receive()  # the server says so too when the response is complete

    world, over = World(vllm), asyncio.Event()
    over.set()
    assert (await world.post("/v1/chat/completions", CHAT, gone=over)).status == status
    assert outcomes(world) == {outcome: 1}


async def test_an_engine_that_dies_in_the_middle_of_a_stream_is_an_error() -> None:
    async def dying(scope: Scope, receive: Receive, send: Send) -> None:
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4)))
        world.tap.on_step([FakeOutput("r", [7])], None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for body in (b"data: x\n\n", b'data: {"error": {"code": 500}}\n\n'):
            await send({"type": "http.response.body", "body": body, "more_body": True})

    world = World(dying)
    await world.post("/v1/chat/completions", CHAT)
    assert outcomes(world) == {"error": 1}


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("stream", [False, True])
async def test_who_gets_an_error_of_the_server_is_told_when_to_come_back(
    status: int, stream: bool
) -> None:
    error = b'{"error": {"message": "m", "type": "x", "param": null, "code": %d}}' % status
    event = b"data: " + error + b"\n\n"
    app = responding(200, event) if stream else responding(status, error)
    answer = await World(app).post("/v1/chat/completions", CHAT)
    assert answer.status == status
    assert 1_000 <= int(answer.headers["retry-after-ms"]) <= 2_000
    said = responding(status, error, headers=[(b"Retry-After", b"7")])
    headers = (await World(said).post("/v1/chat/completions", CHAT)).headers
    assert (headers["retry-after"], "retry-after-ms" in headers) == ("7", False)


@pytest.mark.parametrize("status", [400, 501])
async def test_who_would_get_the_same_error_again_is_told_no_such_thing(status: int) -> None:
    answer = await World(responding(status, b"{}")).post("/v1/chat/completions", CHAT)
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("payload", [b'{"error": "gone"}', b'{"error": ["gone"]}', b"[]"])
async def test_an_error_event_of_any_shape_is_an_error(payload: bytes) -> None:
    event = b"event: error\ndata: " + payload + b"\n\n"
    answer = await World(responding(200, event)).post("/v1/chat/completions", CHAT)
    assert (answer.status, answer.error["type"]) == (500, "server_error")


async def test_a_failing_app_releases_what_it_held() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("boom")

    world = World(broken)
    with pytest.raises(RuntimeError, match="boom"):
        await world.post("/v1/chat/completions", CHAT)
    assert not world.admission.ledger.tickets


async def test_what_a_replica_fails_to_start_may_be_sent_again_and_says_so() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("secret")

    world, sent = World(broken), list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    receive: Callable[[], Awaitable[Message]] = lambda: asyncio.sleep(  # noqa: E731
        0, {"type": "http.request", "body": b'{"prompt": "x"}', "more_body": False}
    )
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
    with pytest.raises(RuntimeError):
        await world.gate(scope, receive, send)
    assert sent[0]["status"] == 503
    assert b"retry-after" in dict(sent[0]["headers"])
    assert b"replica_failed" in sent[1]["body"]
    assert b"secret" not in sent[1]["body"]
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "error")] == 1


async def test_a_timeout_within_the_app_is_not_a_missed_deadline() -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        raise TimeoutError

    world = World(hasty)
    with pytest.raises(TimeoutError):
        await world.post("/v1/chat/completions", CHAT)
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "error")] == 1


async def test_a_first_token_is_told_when_it_comes_and_not_when_its_answer_ends() -> None:
    told: list[float | None] = []

    async def long_answer(scope: Scope, receive: Receive, send: Send) -> None:
        world.tap.on_add(FakeEngineRequest("a", [1] * 10, FakeParams(4)))
        world.clock.now += 0.25
        world.tap.on_step([FakeOutput("a", [7])], None)
        told.append(world.telemetry.recent_ttft()["ttft_p50"])
        world.clock.now += 60.0
        world.tap.on_step([FakeOutput("a", [7], STOP)], None)
        await responding(200, b"{}")(scope, receive, send)

    world = World(long_answer)
    await world.post(COMPLETIONS, CHAT)
    assert told == [pytest.approx(0.25)]
    assert world.telemetry.recent_ttft()["ttft_p50"] is None, "that was a minute ago"


@pytest.mark.parametrize("ends", ["stop string", "abort", "left behind"])
async def test_every_way_of_ending_leaves_nothing_behind(ends: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for name in "abcd":
            world.tap.on_add(FakeEngineRequest(name, [1] * 10, FakeParams(4)))
        world.tap.on_step([FakeOutput("a", [7]), FakeOutput("b", [7])], None)
        if ends == "stop string":
            world.tap.on_stopped(["a", "b", "unknown"])
            world.tap.on_step([FakeOutput("c", [7, 8], STOP), FakeOutput("d", [7], STOP)], None)
        elif ends == "abort":
            world.tap.on_step([FakeOutput(name, [], "abort") for name in "abcd"], None)
        world.tap.on_step([FakeOutput("a", [7])], None)
        await responding(200, b"{}")(scope, receive, send)

    world = World(app)
    await world.post("/v1/completions", {"prompt": ["x", "y"], "n": 2})
    world.tap.on_step([FakeOutput(name, [7]) for name in "abcd"], None)
    ledger = world.admission.ledger
    assert not ledger.tickets
    assert (ledger.queued_prefill, ledger.kv_tokens, len(ledger.running)) == (0, 0, 0)
    world.admission.check_integrity()


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [("x-stainless-retry-count", "0", "1"), ("x-envoy-attempt-count", "1", "2")],
)
async def test_retries_are_counted_as_retries(header: str, first: str, second: str) -> None:
    world = serving()
    for attempt in (first, second, "many"):
        await world.post("/v1/completions", {"prompt": "a"}, headers={header: attempt})
    assert world.telemetry.total(catalogue.OFFERED) == 3
    assert world.telemetry.total(catalogue.RETRIED) == 1


async def test_a_retry_is_no_new_demand_unless_nobody_was_there_to_count_it() -> None:
    world = serving()
    again = {"x-stainless-retry-count": "1"}
    await world.post("/v1/chat/completions", CHAT, headers=again)
    assert world.core.offered.sequences == 0
    world.core.retries_new_until = world.clock.now + 60.0
    await world.post("/v1/chat/completions", CHAT, headers=again)
    world.clock.now += 61.0
    await world.post("/v1/chat/completions", CHAT, headers=again)
    assert world.core.offered.sequences == 1


async def test_what_a_replica_that_stops_refuses_is_no_demand() -> None:
    world = serving()
    world.admission.draining = True
    assert (await world.post("/v1/chat/completions", CHAT)).error["code"] == "draining"
    assert world.core.offered.sequences == 0


async def test_flex_tier_and_header_mean_batch() -> None:
    world = serving()
    await world.post("/v1/chat/completions", {**CHAT, "service_tier": "flex"})
    await world.post("/v1/chat/completions", CHAT, headers={"x-forebay-class": "batch"})
    assert world.telemetry.totals[catalogue.ADMITTED, (BATCH,)] == 2


async def refused_while(world: World, turn_s: float, times: int) -> list[float]:
    """Refuse so many while each turn of the loop takes `turn_s`; how long each was kept back."""
    kept_back: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        kept_back.append(seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio, "sleep", sleep)
        for _ in range(times):
            assert (await world.post("/v1/chat/completions", CHAT)).status == 429
            world.clock.now += turn_s
            await real(0)
    return kept_back


async def test_refusals_are_kept_back_while_the_loop_is_behind_and_else_not() -> None:
    world = serving()
    world.admission.ledger.open((await _ticket(world, prefill=50_000)), expected_output=10)
    assert not await refused_while(world, 0.002, 2_000)
    assert len(await refused_while(world, 0.05, 40)) > 30
    await refused_while(world, 0.002, 200)
    assert not await refused_while(world, 0.002, 20)


async def test_draining_refuses_new_work() -> None:
    world = serving()
    world.admission.draining = True
    answer = await world.post("/v1/chat/completions", CHAT)
    assert (answer.status, answer.error["code"]) == (429, "draining")
    assert not world.seen


async def test_lists_and_samples_are_all_charged() -> None:
    charged: list[int] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        charged.append(world.admission.ledger.queued_sequences)
        await responding(200, b"{}")(scope, receive, send)

    world = World(look)
    await world.post("/v1/completions", {"prompt": ["a", "b"], "n": 2})
    assert charged == [4]


async def test_websockets_are_closed() -> None:
    world = serving()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    receive: Callable[[], Awaitable[Message]] = lambda: asyncio.sleep(0, {})  # noqa: E731
    await world.gate({"type": "websocket", "path": "/v1/realtime"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_without_a_router_the_gate_itself_knows_what_is_cached() -> None:
    world = serving(prefixes=OwnPrefixes())
    told = []
    decide = world.admission.decide

    def deciding(cost: Cost, *args: Any, **more: Any) -> Any:
        told.append(cost.cached_tokens)
        return decide(cost, *args, **more)

    world.admission.decide = deciding  # type: ignore[method-assign]
    chat = {**CHAT, "messages": [{"role": "user", "content": "hi " * 700}]}
    claim = {"x-serve-router-cached-tokens": "400"}  # no router says so
    for _ in range(2):
        assert (await world.post("/v1/chat/completions", chat, headers=claim)).status == 200
    assert told[0] == 0 < told[1]


async def test_a_browser_may_ask_without_a_key_what_it_may_send(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(json.dumps({"tenants": [{"name": "t", "key_hashes": [key_hash(new_key())]}]}))
    world = World(responding(200, b"OK"), tenants=str(file))
    asked = [await world.post(COMPLETIONS, b"", method=method) for method in ("OPTIONS", "GET")]
    assert [answer.status for answer in asked] == [200, 401]
    assert (await world.post("/metrics", b"", method="OPTIONS")).status == 404
    assert (await world.post(STATUS_PATH, b"", method="OPTIONS")).status == 404


async def test_routers_learn_of_every_request_that_they_sent() -> None:
    world = World(responding(200, b"{}"))
    await world.post("/v1/completions", {"model": "demo", "prompt": "a", "max_tokens": 1})
    await world.post("/tokenize", {"model": "demo", "prompt": "a"})
    await world.post("/v1/completions", b"{")
    await world.post("/v1/models", b"", method="GET")
    assert world.telemetry.posts == 3
