"""The OpenAI API through HAProxy, gate and tap, as OpenAI's own client sees it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import openai
import pytest
from serving_process import ServingProcess

MESSAGES: Any = [{"role": "user", "content": "What does river mean?"}]


def post(service: ServingProcess, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    """(status, parsed JSON) of a raw POST."""
    given = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{service.url}{path}", body, given)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=20)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 20


def test_streaming_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="demo",
            messages=MESSAGES,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_several_answers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=MESSAGES, n=3, max_tokens=8, temperature=1.0
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_several_prompts_of_several_answers(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=["A", "B"], n=2, max_tokens=4)
    assert len(answer.choices) == 4


def test_stop_ends_the_answer(client: openai.OpenAI) -> None:
    free = client.completions.create(
        model="demo", prompt="The", max_tokens=30, temperature=0, extra_body={"ignore_eos": True}
    )
    word = free.choices[0].text.split()[2]
    stopped = client.completions.create(
        model="demo", prompt="The", max_tokens=30, temperature=0, stop=word
    )
    assert stopped.choices[0].finish_reason == "stop"
    assert word not in stopped.choices[0].text


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    texts = {
        client.completions.create(
            model="demo", prompt="Once", max_tokens=12, temperature=1.0, seed=7
        )
        .choices[0]
        .text
        for _ in range(2)
    }
    assert len(texts) == 1


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=MESSAGES, max_tokens=3, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert all(token.logprob <= 0 for token in logprobs.content)


def test_json_schema_output(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"size": {"type": "string", "enum": ["small", "large"]}},
        "required": ["size"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="demo",
        messages=MESSAGES,
        max_tokens=60,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema},
        },
    )
    assert json.loads(answer.choices[0].message.content or "")["size"] in ("small", "large")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing-like-it")
    assert caught.value.type == "not_found_error"


def test_tokenize_and_back(service: ServingProcess) -> None:
    status, tokens = post(service, "/tokenize", b'{"model": "demo", "prompt": "a river"}')
    assert (status, tokens["count"]) == (200, len(tokens["tokens"]))
    body = json.dumps({"model": "demo", "tokens": tokens["tokens"]}).encode()
    assert post(service, "/detokenize", body)[1]["prompt"] == "a river"


def test_health(service: ServingProcess) -> None:
    with urllib.request.urlopen(f"{service.url}/health", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'{"messages": 1}', b"null"])
def test_unusable_bodies_get_openais_error_shape(
    service: ServingProcess, path: str, body: bytes
) -> None:
    status, answer = post(service, path, body)
    assert 400 <= status < 500
    assert set(answer["error"]) >= {"message", "type", "param", "code"}
    assert isinstance(answer["error"]["message"], str)


@pytest.mark.parametrize("path", ["/", "/nope", "/v1/embeddings", "/v1/completions/x", "/metrics"])
def test_unknown_paths_get_openais_error_shape(service: ServingProcess, path: str) -> None:
    status, answer = post(service, path, b"{}")
    assert status == 404
    assert answer["error"]["type"] == "not_found_error"


def test_an_unknown_model_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        client.chat.completions.create(model="gpt-9", messages=MESSAGES)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"max_tokens": -3}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"n": 1000}, "answers"),
        ({"prompt": "river " * 30_000}, "context"),
        ({"prompt": [5] * 5_000}, "context"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_impossible_requests_are_400_and_say_why(
    service: ServingProcess, changes: dict[str, Any], word: str
) -> None:
    body = {"model": "demo", "prompt": "a", "max_tokens": 4, **changes}
    status, answer = post(service, "/v1/completions", json.dumps(body).encode())
    assert status == 400
    assert word in answer["error"]["message"]


def test_a_body_over_the_limit_is_413(service: ServingProcess) -> None:
    body = json.dumps({"model": "demo", "prompt": "x" * 1_200_000}).encode()
    status, answer = post(service, "/v1/completions", body)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
