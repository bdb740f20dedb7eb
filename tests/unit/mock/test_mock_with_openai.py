"""OpenAI's own client against the mock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from forebay.mock import MockSpec
from forebay.mock.laws import Fixed
from forebay.mock.mock_server import MockServer, mock_server

QUICK = MockSpec(ttft=Fixed(0.002), itl=Fixed(0.001))


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[openai.AsyncOpenAI, MockServer]]:
    async with (
        mock_server(QUICK) as mock,
        openai.AsyncOpenAI(base_url=f"{mock.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client, mock


def hello() -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": "hello there"}]


async def test_a_chat_stream() -> None:
    async with connected() as (client, _):
        stream = await client.chat.completions.create(
            model="mock",
            messages=hello(),
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == " 000 001 002 003"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 4)


async def test_multibyte_text_split_anywhere() -> None:
    async with connected() as (client, _):
        stream = await client.completions.create(
            model="mock",
            prompt="hello",
            max_tokens=25,
            stream=True,
            extra_headers={"X-Mock": "split"},
        )
        text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text == "".join(f" {n:03}é水\U0001f30a" for n in range(25))


async def test_plain_answers_and_models() -> None:
    async with connected() as (client, _):
        said = await client.chat.completions.create(model="m", messages=hello(), max_tokens=2)
        text = await client.completions.create(model="m", prompt=[1, 2, 3], max_tokens=2)
        models = [model.id async for model in client.models.list()]
    assert said.choices[0].message.content == text.choices[0].text == " 000 001"
    assert text.usage is not None
    assert text.usage.prompt_tokens == 3
    assert models == ["mock"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("drop", openai.APIConnectionError),
        ("malformed", openai.APIConnectionError),
    ],
)
async def test_faults_are_its_errors(fault: str, error: type[Exception]) -> None:
    async with connected() as (client, _):
        with pytest.raises(error):
            await client.completions.create(model="m", prompt="a", extra_headers={"X-Mock": fault})


async def test_an_error_inside_a_stream_is_raised() -> None:
    async with connected() as (client, _):
        stream = await client.completions.create(
            model="m", prompt="a", stream=True, extra_headers={"X-Mock": "error-in-stream=2"}
        )
        for _ in range(2):
            assert (await anext(stream)).choices[0].text
        with pytest.raises(openai.APIError, match="told to fail"):
            await anext(stream)


async def test_it_comes_again_after_a_refusal_when_told_to() -> None:
    async with connected() as (client, mock):
        with pytest.raises(openai.RateLimitError):
            await client.with_options(max_retries=1).completions.create(
                model="m", prompt="a", extra_headers={"X-Mock": "429=1ms"}
            )
    assert len(mock.requests) == 2
