"""The emulated engine behind its API and the gate, in real time with steps of a millisecond."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import services
from admissions import admission, admission_config
from services import limits_of, service

from forebay.engine_model import PROFILES, EngineProfile, StepTime
from forebay.observability import catalogue
from forebay.serving.app import Replica
from forebay.serving.emulated import STOP, EmulatedEngine, teach
from forebay.serving.emulated.api import EmulatedApi
from forebay.serving.emulated.questions import natural_length
from forebay.serving.engine import StartClock
from forebay.serving.http import Message
from forebay.serving.names import READING_PREFIX

BLOCK = 32
FAST = replace(
    PROFILES["demo-cpu"], name="fast", step_time=StepTime(0.5e-3, 0.0, 0.0), max_num_seqs=8
)


class Client:
    """Asks an ASGI app the way HAProxy does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def ask(
        self, path: str, body: dict[str, Any] | None = None, leave_after: int | None = None
    ) -> tuple[int, list[bytes]]:
        """Status and body chunks; leaves after so many of them."""
        sent: list[Message] = []
        gone = asyncio.Event()
        first = {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        pending = [first]

        async def receive() -> Message:
            if pending:
                return pending.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)
            if leave_after is not None and len(sent) > leave_after:
                gone.set()

        method = "GET" if body is None else "POST"
        scope = {"type": "http", "method": method, "path": path, "headers": []}
        await self._app(scope, receive, send)
        start = next(m for m in sent if m["type"] == "http.response.start")
        return start["status"], [m["body"] for m in sent if m["type"] == "http.response.body"]

    async def json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        status, chunks = await self.ask(path, body)
        assert status == 200, chunks
        return json.loads(b"".join(chunks))

    async def events(self, path: str, body: dict[str, Any]) -> list[Any]:
        _, chunks = await self.ask(path, {**body, "stream": True})
        lines = b"".join(chunks).decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


@pytest.fixture
async def engine() -> AsyncIterator[EmulatedEngine]:
    engine = EmulatedEngine(FAST, time.perf_counter)
    yield engine
    engine.close()


@pytest.fixture
def client(engine: EmulatedEngine) -> Client:
    return Client(EmulatedApi(engine, "demo"))


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}


async def test_a_chat_gets_the_tokens_that_it_asks_for(client: Client) -> None:
    answer = await client.json("/v1/chat/completions", chat("hi", max_tokens=5, ignore_eos=True))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["prompt_tokens"] == 4  # mark, word, mark, mark
    assert len(answer["choices"][0]["message"]["content"].split()) == 5


async def test_a_stream_says_the_same_token_by_token(client: Client) -> None:
    body = chat("hi", max_tokens=5, ignore_eos=True)
    whole = await client.json("/v1/chat/completions", body)
    events = await client.events(
        "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}
    )
    *tokens, last = events
    assert len(tokens) == 5
    text = "".join(event["choices"][0]["delta"]["content"] for event in tokens)
    assert text == whole["choices"][0]["message"]["content"]
    assert last["usage"]["completion_tokens"] == 5


async def test_an_unbounded_answer_ends_by_itself_and_the_same_way_each_time(
    client: Client,
) -> None:
    answers = [await client.json("/v1/chat/completions", chat("go on")) for _ in range(2)]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["choices"][0]["finish_reason"] == "stop"


def test_natural_lengths_vary_as_answers_do() -> None:
    lengths = sorted(natural_length([n]) for n in range(400))
    assert 150 < lengths[200] < 260
    assert lengths[380] / lengths[200] == pytest.approx(3.16, rel=0.25)  # exp(0.7 x 1.645)


async def test_completions_take_ids_lists_and_samples(client: Client) -> None:
    one = await client.json("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 2})
    assert one["usage"]["prompt_tokens"] == 3
    many = {"prompt": ["a b", "c d e"], "n": 2, "max_tokens": 2, "ignore_eos": True}
    several = await client.json("/v1/completions", many)
    assert [choice["index"] for choice in several["choices"]] == [0, 1, 2, 3]
    assert several["usage"]["completion_tokens"] == 8
    assert len(await client.events("/v1/completions", many)) == 8


async def test_prompts_count_once_and_answers_stand_by_their_prompt(client: Client) -> None:
    body = {"prompt": ["a b", "c d e"], "n": 2, "max_tokens": 2, "ignore_eos": True}
    answer = await client.json("/v1/completions", body)
    assert answer["usage"]["prompt_tokens"] == 2 + 3
    texts = [choice["text"] for choice in answer["choices"]]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    streamed = await client.events(
        "/v1/completions", {**body, "stream_options": {"include_usage": True}}
    )
    assert streamed[-1]["usage"] == answer["usage"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": ""}, "prompt"),
        ("/v1/completions", {"prompt": []}, "prompt"),
        ("/v1/completions", {"prompt": ["a", ""]}, "prompt"),
        ("/v1/completions", {"prompt": [[]]}, "prompt"),
        ("/v1/completions", {"prompt": [1] * FAST.max_model_len}, "prompt"),
        ("/v1/completions", {"prompt": [1, "a"]}, "prompt"),
        ("/v1/completions", {"prompt": [-1]}, "prompt"),
        ("/v1/completions", {"prompt": 7}, "prompt"),
        ("/v1/completions", {"prompt": "a", "max_tokens": "9"}, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "n": 1.5}, "n"),
        ("/v1/chat/completions", {"messages": "hi"}, "messages"),
        ("/v1/chat/completions", {"messages": [1]}, "messages"),
        ("/detokenize", {"tokens": ["a"]}, "prompt"),
        ("/tokenize", [], None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_answered_is_a_400(
    client: Client, engine: EmulatedEngine, path: str, body: Any, param: str | None, stream: bool
) -> None:
    status, chunks = await client.ask(path, {**body, "stream": stream} if body else body)
    error = json.loads(b"".join(chunks))["error"]
    assert (status, error["param"]) == (400, param)
    assert engine.kv_usage == 0


async def test_a_prompt_one_short_of_the_context_gets_one_token(client: Client) -> None:
    prompt = [1] * (FAST.max_model_len - 1)
    answer = await client.json("/v1/completions", {"prompt": prompt, "max_tokens": 9})
    assert answer["usage"]["completion_tokens"] == 1


async def test_an_engine_that_is_closed_leaves_nobody_waiting(engine: EmulatedEngine) -> None:
    async def ask() -> None:
        async for _ in engine.generate("long", [1, 2, 3], 1500, 1501):
            engine.close()

    with pytest.raises(RuntimeError, match="closed"):
        await asyncio.wait_for(ask(), 5.0)
    with pytest.raises(RuntimeError, match="closed"):
        await anext(aiter(engine.generate("next", [1], 1, 2)))


async def test_a_fault_in_telling_one_step_does_not_stop_the_engine(
    client: Client, engine: EmulatedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty:
        def on_add(self, _: Any) -> None:
            pass

        def on_step(self, *_: Any) -> None:
            raise RuntimeError("in the tap")

    engine.attach(Faulty())  # type: ignore[arg-type]
    answer = await asyncio.wait_for(
        client.json("/v1/completions", {"prompt": "a", "max_tokens": 3, "ignore_eos": True}), 5.0
    )
    assert answer["usage"]["completion_tokens"] == 3
    assert "in the tap" in caplog.text


async def test_a_prompt_seen_before_is_cached_in_whole_blocks(client: Client) -> None:
    body = {"prompt": list(range(2 * BLOCK + 5)), "max_tokens": 1}
    cached = [
        (await client.json("/v1/completions", body))["usage"]["prompt_tokens_details"]
        for _ in range(2)
    ]
    assert [c["cached_tokens"] for c in cached] == [0, 2 * BLOCK]


async def test_what_it_does_not_have_is_refused_in_openais_shape(client: Client) -> None:
    for path, body, status in (
        ("/v1/chat/completions", chat("hi", model="other"), 404),
        ("/v1/completions", {"prompt": [1] * 5000}, 400),
        ("/v1/responses", {"input": "hi"}, 404),
        ("/v1/models/other", None, 404),
    ):
        found, chunks = await client.ask(path, body)
        assert found == status
        assert "message" in json.loads(b"".join(chunks))["error"]


async def test_models_and_the_tokenizer(client: Client) -> None:
    assert (await client.json("/v1/models"))["data"][0]["id"] == "demo"
    ids = (await client.json("/tokenize", {"prompt": "the cat sat"}))["tokens"]
    assert len(ids) == 3
    assert (await client.json("/detokenize", {"tokens": ids}))["prompt"] == "the cat sat"


async def test_a_client_that_leaves_frees_its_place(client: Client, engine: EmulatedEngine) -> None:
    body = chat("hi", max_tokens=1500, ignore_eos=True, stream=True)
    _, chunks = await client.ask("/v1/chat/completions", body, leave_after=3)
    assert 2 <= len(chunks) < 1500
    assert engine.kv_usage == 0
    assert (await client.json("/v1/chat/completions", chat("hi", max_tokens=2)))["usage"]


async def test_more_than_fit_wait_their_turn(client: Client) -> None:
    bodies = [chat(f"number {n}", max_tokens=6, ignore_eos=True) for n in range(30)]
    answers = await asyncio.gather(*(client.json("/v1/chat/completions", b) for b in bodies))
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {6}


# Behind the gate


def replica_of(
    engine: EmulatedEngine, profile: EngineProfile, start: StartClock | None = None, **more: Any
) -> Replica:
    limits = limits_of(profile, stop_reason=STOP)
    made = services.replica(service(**more), limits, clock=time.perf_counter, start=start)
    engine.attach(made.tap)
    return made


@pytest.fixture
def replica(engine: EmulatedEngine) -> Replica:
    return replica_of(engine, FAST)


def test_the_autoscaler_is_told_how_long_the_start_took_once_it_is_over(
    engine: EmulatedEngine,
) -> None:
    now = [0.0]
    start = StartClock(lambda: now[0], began=-5.0)
    replica = replica_of(engine, FAST, start)
    start.done("image")
    assert replica.reading()[READING_PREFIX + "start_s"] == 0.0  # a part of it says nothing
    now[0] = 35.0
    start.done("weights")
    replica.ready_at = 35.0
    assert replica.reading()[READING_PREFIX + "start_s"] == 40.0


@pytest.fixture
def gated(engine: EmulatedEngine, replica: Replica) -> Client:
    return Client(replica.gate(EmulatedApi(engine, "demo")))


async def test_what_the_gate_lets_in_is_counted_to_the_last_token(
    gated: Client, replica: Replica
) -> None:
    bodies = [chat(f"number {n}", max_tokens=6, ignore_eos=True) for n in range(30)]
    found = await asyncio.gather(*(gated.ask("/v1/chat/completions", b) for b in bodies))
    served = sum(status == 200 for status, _ in found)
    refused = sum(status == 429 for status, _ in found)
    assert (served + refused, served > 0) == (30, True)
    assert replica.telemetry.total(catalogue.OUTPUT_TOKENS) == 6 * served
    assert replica.telemetry.total(catalogue.SHED) == refused
    assert not replica.admission.ledger.tickets
    replica.admission.ledger.check_integrity()


async def test_no_answer_is_longer_than_the_service_says(engine: EmulatedEngine) -> None:
    limited = replica_of(engine, FAST, admission={"max_output_tokens": 7})
    found = Client(limited.gate(EmulatedApi(engine, "demo")))
    _, body = await found.ask("/v1/chat/completions", chat("hi", ignore_eos=True))
    answer = json.loads(b"".join(body))
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_a_completion_has_no_limit_but_its_own(client: Client) -> None:
    body = {"model": "demo", "prompt": "x", "max_completion_tokens": 400, "ignore_eos": True}
    _, found = await client.ask("/v1/completions", body)
    assert json.loads(b"".join(found))["usage"]["completion_tokens"] == 16


async def test_a_browser_may_ask_first(gated: Client) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    origin = [(b"origin", b"https://app.example")]
    for method, path in (("OPTIONS", "/v1/chat/completions"), ("HEAD", "/health")):
        scope = {"type": "http", "method": method, "path": path, "headers": origin}
        await gated._app(scope, receive, send)
    starts = [one for one in sent if one["type"] == "http.response.start"]
    assert [one["status"] for one in starts] == [200, 200]
    assert (b"access-control-allow-methods", b"*") in starts[0]["headers"]


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_an_answer_half_way_leaves_nothing_behind(
    gated: Client, replica: Replica, engine: EmulatedEngine, stream: bool
) -> None:
    body = chat("hi", n=2, max_tokens=1500, ignore_eos=True, stream=stream)
    task = asyncio.create_task(gated.ask("/v1/chat/completions", body, leave_after=3))
    for _ in range(100_000):
        if replica.telemetry.total(catalogue.OUTPUT_TOKENS) >= 2:
            break
        await asyncio.sleep(0)
    if not stream:
        task.cancel()  # as the server does when the connection has gone
    await asyncio.gather(task, return_exceptions=True)
    assert engine.kv_usage == 0
    assert not replica.admission.ledger.tickets
    replica.admission.check_integrity()
    ended = replica.telemetry.by_second_label(catalogue.FINISHED, "interactive")
    assert ended == {"disconnected": 1}
    assert (await gated.ask("/v1/chat/completions", chat("hi", max_tokens=2)))[0] == 200


async def test_the_fleets_status_adds_up(gated: Client) -> None:
    await gated.ask("/v1/chat/completions", chat("hello", max_tokens=6, ignore_eos=True))
    status = await gated.json("/forebay/status")
    assert status["service"] == "s"
    assert status["classes"]["interactive"]["offered"] == 1
    assert status["classes"]["interactive"]["finished"] == 1
    assert status["classes"]["batch"]["offered"] == 0
    (told,) = status["replicas"]
    assert told["replica"] == "r1"
    assert told["output_tokens"] == 6


def test_admission_knows_an_emulated_engine_before_its_first_request() -> None:
    made = admission(admission_config(slots=8, kv_tokens=9_999), context=FAST.max_model_len)
    profile = replace(FAST, step_time=StepTime(1e-3, 10e-6, 1e-3, 1e-9))
    teach(made, profile)
    law = made.paces.law
    found = law.base_s, law.per_token_s, law.per_sequence_s, law.per_context_s
    assert found == pytest.approx((1e-3, 10e-6, 1e-3, 1e-9), rel=0.01)
    assert made.paces.prefill_rate.rate == pytest.approx(2048 / (1e-3 + 2048 * 10e-6))
    assert made.paces.seconds_per_token == pytest.approx(2e-3, rel=0.01)
    assert made.paces.seconds_per_token_when_full == pytest.approx(9e-3, rel=0.01)
