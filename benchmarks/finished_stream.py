"""A finished answer behind nginx: what a load client can do when the server costs nothing.

Every POST gets the same event stream of 64 tokens at once, from one nginx worker on a core of its
own. A generator's requests/s here are its own speed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client import ROOT
from forebay.serving.app import free_ports

FOLDER = ROOT / "runs" / "nginx"
START_S = 10.0
ABSENT = "skipped: there is no nginx on the PATH (Debian: apt-get install nginx-light)"

# One process: nginx's master would only start the worker. A static file takes no POST; the 405 that
# follows is turned into the file itself.
_CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    open_file_cache max=16 inactive=1h;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 8m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/site;
        error_page 405 =200 $uri;
        location /v1/completions {{ default_type text/event-stream; }}
        location /v1/chat/completions {{ default_type text/event-stream; }}
        location / {{ default_type application/json; }}
    }}
}}
"""


@contextmanager
def nginx(tokens: int, core: int) -> Iterator[str]:
    """An nginx on the core, answering with finished streams of so many tokens; its URL.

    Raises:
        FileNotFoundError: there is no nginx; the message says what to do.
        RuntimeError: it did not start.
    """
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise FileNotFoundError(ABSENT)
    _write_site(FOLDER / "site", tokens)
    port = free_ports(1)[0]
    config = FOLDER / "nginx.conf"
    config.write_text(_CONFIG.format(folder=FOLDER, port=port))
    process = subprocess.Popen(
        [binary, "-p", str(FOLDER), "-c", str(config)], stderr=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(process.pid, {core})
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _write_site(site: Path, tokens: int) -> None:
    (site / "v1" / "chat").mkdir(parents=True, exist_ok=True)
    (site / "v1" / "completions").write_bytes(_stream(tokens, chat=False))
    (site / "v1" / "chat" / "completions").write_bytes(_stream(tokens, chat=True))
    model = {"id": "demo", "object": "model", "created": 0, "owned_by": "vllm"}
    (site / "v1" / "models").write_text(json.dumps({"object": "list", "data": [model]}))
    (site / "health").write_text("{}")


def _stream(tokens: int, *, chat: bool) -> bytes:
    """Events as vLLM 0.29 writes them: one a token, then the usage, then the end."""
    said = [_choice(number, tokens, chat=chat) for number in range(tokens)]
    usage = {
        "prompt_tokens": 100, "total_tokens": 100 + tokens, "completion_tokens": tokens,
    }  # fmt: skip
    head: dict[str, object] = {
        "id": "cmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 1_780_000_000,
        "model": "demo",
    }
    events = [{**head, "choices": [choice], "usage": None} for choice in said]
    events.append({**head, "choices": [], "usage": usage})
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def _choice(number: int, tokens: int, *, chat: bool) -> dict[str, object]:
    text = f" w{number:02}"
    finish = "length" if number == tokens - 1 else None
    if chat:
        delta = {"role": "assistant", "content": text} if number == 0 else {"content": text}
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None,
    }  # fmt: skip


def _wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"nginx ended while starting: {process.stderr.read().strip()}")
        try:
            request = urllib.request.Request(f"{url}/v1/completions", b"{}")
            with urllib.request.urlopen(request, timeout=1) as answer:
                if answer.read().endswith(b"[DONE]\n\n"):
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"nginx did not answer within {START_S} s; see {FOLDER}/error.log")
