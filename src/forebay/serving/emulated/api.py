"""The HTTP API of the emulated engine: the part of vLLM's that the gate lets through.

A plain ASGI app: bodies have been checked and priced by the gate, and a stream costs one `send` a
token.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.routing import Route

from forebay.engine_model import EngineProfile
from forebay.serving.emulated.emulated_engine import Delta, EmulatedEngine
from forebay.serving.emulated.questions import (
    CHAT,
    COMPLETIONS,
    Question,
    ids_of,
    prompts_of,
    questions_of,
)
from forebay.serving.emulated.text import decode, piece
from forebay.serving.http import (
    Receive,
    RequestRefusedError,
    Scope,
    Send,
    live_through,
    read_body,
    send_error,
    send_response,
)
from forebay.wire import DONE

_BODY_LIMIT = 64 * 1024 * 1024  # the gate's is smaller
_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]
_PREFLIGHT = [(b"access-control-allow-methods", b"*"), (b"access-control-allow-headers", b"*")]
_PATHS = (CHAT, COMPLETIONS, "/v1/models", "/tokenize", "/detokenize", "/health")


async def _routed_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve only looks routes up for their names; `EmulatedApi` answers."""


class EmulatedApi:
    """Chat, completions, models and the tokenizer, answered by an emulated engine."""

    routes = tuple(Route(path, _routed_here) for path in _PATHS)

    def __init__(self, engine: EmulatedEngine, model_id: str) -> None:
        self._engine = engine
        self._model = model_id
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await live_through(receive, send)
        elif scope["method"] == "OPTIONS":  # a browser asks first; the gate says who may
            await send_response(send, 200, b"", headers=_PREFLIGHT)
        elif scope["method"] in ("GET", "HEAD"):
            await self._get(scope["path"], send)
        else:
            await self._post(scope["path"], receive, send)

    async def _get(self, path: str, send: Send) -> None:
        if path in ("/health", "/ping"):
            await send_response(send, 200, b"")
        elif path.startswith("/v1/models"):
            await self._models(path, send)
        elif path == "/version":
            await send_response(send, 200, b'{"version": "emulated"}')
        else:
            await send_error(send, 404, f"No such path: GET {path}.", "unknown_path")

    async def _models(self, path: str, send: Send) -> None:
        card = {
            "id": self._model,
            "object": "model",
            "owned_by": "forebay",
            "max_model_len": self._profile.max_model_len,
        }
        name = path.removeprefix("/v1/models").strip("/")
        if name and name != self._model:
            await send_error(send, 404, f"Unknown model: {name}", "model_not_found")
            return
        await _send_json(send, card if name else {"object": "list", "data": [card]})

    @property
    def _profile(self) -> EngineProfile:
        return self._engine.profile

    async def _post(self, path: str, receive: Receive, send: Send) -> None:
        try:
            await self._answered(
                path, _object(await read_body(receive, _BODY_LIMIT)), receive, send
            )
        except RequestRefusedError as refusal:
            await send_error(
                send, refusal.status, refusal.message, refusal.code, param=refusal.param
            )

    async def _answered(
        self, path: str, data: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        if path in (CHAT, COMPLETIONS):
            await self._ask(path, data, receive, send)
        elif path == "/tokenize":
            ids = prompts_of(COMPLETIONS if "prompt" in data else CHAT, data)[0]
            found = {"count": len(ids), "max_model_len": self._profile.max_model_len, "tokens": ids}
            await _send_json(send, found)
        elif path == "/detokenize":
            await _send_json(send, {"prompt": decode(ids_of(data.get("tokens", [])))})
        else:
            await send_error(send, 404, f"The emulated engine has no {path}.", "unknown_path")

    async def _ask(self, path: str, data: dict[str, Any], receive: Receive, send: Send) -> None:
        if data.get("model") not in (None, self._model):
            message = f"The model `{data['model']}` does not exist."
            await send_error(send, 404, message, "model_not_found", param="model")
            return
        questions = questions_of(path, data, self._profile.max_model_len)
        answering = asyncio.ensure_future(self._answer(questions, send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                if not task.done():
                    task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        if answering.done() and not answering.cancelled() and (error := answering.exception()):
            raise error

    async def _answer(self, questions: list[Question], send: Send) -> None:
        name = f"emu-{next(self._numbers)}"
        if questions[0].stream:
            await self._stream(name, questions, send)
        else:
            await self._whole(name, questions, send)

    async def _whole(self, name: str, questions: list[Question], send: Send) -> None:
        answers = await asyncio.gather(
            *(self._collected(f"{name}-{i}", q) for i, q in enumerate(questions))
        )
        chat = questions[0].is_chat
        choices = [
            {
                "index": index,
                **({"message": {"role": "assistant", "content": text}} if chat else {"text": text}),
                "finish_reason": finish,
            }
            for index, (text, finish, _, _) in enumerate(answers)
        ]
        usage = _usage(questions, [(made, cached) for _, _, made, cached in answers])
        kind = "chat.completion" if chat else "text_completion"
        await _send_json(send, {**self._head(name, kind), "choices": choices, "usage": usage})

    async def _collected(self, name: str, question: Question) -> tuple[str, str, int, int]:
        """Text, finish reason, tokens and cached prompt tokens of one answer."""
        tokens: list[int] = []
        finish, cached = "length", 0
        async for delta in self._generate(name, question):
            tokens += delta.tokens
            cached = cached if delta.cached_tokens is None else delta.cached_tokens
            finish = delta.finish or finish
        return decode(tokens), finish, len(tokens), cached

    async def _stream(self, name: str, questions: list[Question], send: Send) -> None:
        kind = "chat.completion.chunk" if questions[0].is_chat else "text_completion"
        head = json.dumps(self._head(name, kind))[:-1]
        await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        counts = await asyncio.gather(
            *(self._stream_one(head, name, i, q, send) for i, q in enumerate(questions))
        )
        tail = DONE
        if questions[0].usage:
            usage = _usage(questions, counts)
            tail = (
                f'data: {head}, "choices": [], "usage": {json.dumps(usage)}}}\n\n'.encode() + tail
            )
        await send({"type": "http.response.body", "body": tail, "more_body": False})

    async def _stream_one(
        self, head: str, name: str, index: int, question: Question, send: Send
    ) -> tuple[int, int]:
        """Tokens sent, and cached prompt tokens."""
        before = f'data: {head}, "choices": [{{"index": {index}, '
        opening, closing = ('"text": "', '"')
        if question.is_chat:
            opening, closing = ('"delta": {"content": "', '"}')
        made = cached = 0
        async for delta in self._generate(f"{name}-{index}", question):
            made += len(delta.tokens)
            cached = cached if delta.cached_tokens is None else delta.cached_tokens
            text = json.dumps("".join(map(piece, delta.tokens)))[1:-1]
            finish = f'"{delta.finish}"' if delta.finish else "null"
            event = f'{before}{opening}{text}{closing}, "finish_reason": {finish}}}]}}\n\n'
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        return made, cached

    def _generate(self, name: str, question: Question) -> AsyncIterator[Delta]:
        return self._engine.generate(
            name, question.prompt, question.max_tokens, question.stop_after
        )

    def _head(self, name: str, kind: str) -> dict[str, Any]:
        return {"id": name, "object": kind, "created": int(time.time()), "model": self._model}


def _usage(questions: list[Question], counts: list[tuple[int, int]]) -> dict[str, Any]:
    """Counts of a request; a prompt counts once, however many answers it got.

    Args:
        questions: what was asked.
        counts: tokens made and prompt tokens cached, of each.
    """
    completion = sum(made for made, _ in counts)
    firsts = [pair for pair in zip(questions, counts, strict=True) if pair[0].sample == 0]
    prompt = sum(len(question.prompt) for question, _ in firsts)
    cached = sum(cached for _, (_, cached) in firsts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise RequestRefusedError(400, "The body must be a JSON object.", "bad_json")
    return data


async def _send_json(send: Send, value: Any) -> None:
    await send_response(send, 200, json.dumps(value).encode())


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
