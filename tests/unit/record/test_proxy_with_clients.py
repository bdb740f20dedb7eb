"""The proxy between the client that users have and a server, and before one that speaks TLS."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import openai
import pytest
from proxy_peers import SSE_HEAD, chat, chunk, event, proxied, request, until

from forebay.mock import MockSpec
from forebay.mock.laws import Fixed
from forebay.mock.mock_server import mock_server

QUICK = MockSpec(ttft=Fixed(0.002), itl=Fixed(0.001))


async def test_openais_client_streams_through_it_many_at_once() -> None:
    async with mock_server(QUICK) as mock, proxied(mock.url) as proxy:
        base = f"{proxy.proxy.url}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="sk-sekret", max_retries=0) as client:

            async def text_of(tokens: int) -> str:
                stream = await client.chat.completions.create(
                    model="mock",
                    messages=[{"role": "user", "content": "a sekret"}],
                    max_tokens=tokens,
                    stream=True,
                    stream_options={"include_usage": True},
                    extra_headers={"X-Forebay-Class": "batch"},
                )
                parts = [
                    part.choices[0].delta.content or "" async for part in stream if part.choices
                ]
                return "".join(parts)

            texts = await asyncio.gather(*map(text_of, range(1, 31)))
            models = await client.models.list()
        await until(lambda: len(proxy.lines) == 30)
    assert texts == ["".join(f" {n:03}" for n in range(tokens)) for tokens in range(1, 31)]
    assert [model.id for model in models.data] == ["mock"]
    assert sorted(row["output_tokens"] for row in proxy.rows) == list(range(1, 31))
    assert {row["prompt_tokens"] for row in proxy.rows} == {2}
    assert {row["class"] for row in proxy.rows} == {"batch"}
    assert len({row["tenant"] for row in proxy.rows}) == 1
    assert "sekret" not in "".join(proxy.lines)


async def test_a_refusal_reaches_openais_client_as_such_and_is_recorded_as_shed() -> None:
    async with mock_server(QUICK) as mock, proxied(mock.url) as proxy:
        base = f"{proxy.proxy.url}/v1"
        async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError):
                await client.completions.create(
                    model="mock", prompt="a b", extra_headers={"X-Mock": "429"}
                )
        await until(lambda: proxy.lines)
    assert proxy.rows[0]["outcome"] == "shed"
    assert proxy.rows[0]["output_tokens"] == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_server_that_speaks_tls_must_prove_who_it_is(
    certificate: Path, trusted: bool
) -> None:
    said = SSE_HEAD + chunk(event("a")) + chunk(event("b")) + b"0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(chat()))
            writer.write(said)
            await reader.read()
        finally:
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, proxied(url) as proxy:
        if trusted:
            assert proxy.proxy._tls is not None
            proxy.proxy._tls.load_verify_locations(f"{certificate}.crt")
        client = await proxy.connect()
        client.write(request(chat()))
        if trusted:
            await client.expect(said)
        else:
            first, _, _ = await client.message()
            assert first == "HTTP/1.1 502 Bad Gateway"
            assert "certificate verify failed" in proxy.proxy.trouble.lower()
        await until(lambda: proxy.lines)
        await client.close()
    assert proxy.rows[0]["output_tokens"] == (2 if trusted else 0)
