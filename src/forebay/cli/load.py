"""`forebay load`: a load test against any OpenAI-compatible endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.exits import Exit, fail, parsed_or_exit, refuse
from forebay.cli.header_values import key_or_exit, sendable_or_exit
from forebay.cli.run_output import writable_or_exit, written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forebay.load.plan import Endpoint, WorkerPlan
    from forebay.load.results import Measured
    from forebay.load.run import LoadPlan, Workers
    from forebay.spec.workload import WorkloadSpec


_GOOD = 0.99  # --find-rate: share of the requests
_OWN_RATES = "the search chooses the rates; --rate names the first"
_NOT_IN_A_SEARCH = {
    "--check": "what a rate must reach is --good",
    "--clients": _OWN_RATES,
    "--metrics": "it judges the answers alone; load the rate that it finds to see the server",
    "--ramp": _OWN_RATES,
    "--ray": "it runs on this machine",
}


def load(
    url: Annotated[str, typer.Argument(help="Endpoint, such as http://localhost:8000.")],
    workload: Annotated[
        str, typer.Option("--workload", "-w", help="Workload file, or one that is built in.")
    ] = "chat",
    rate: Annotated[
        str | None, typer.Option(help='Sessions/s: "20/s", or stages "10/s,20/s,40/s".')
    ] = None,
    ramp: Annotated[str | None, typer.Option(help='Straight ramp, "5/s..80/s".')] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="Closed loop of N clients.")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="How long each stage lasts, such as 60s.")
    ] = None,
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Fixed prompt length.")] = None,
    output_tokens: Annotated[int | None, typer.Option(min=1, help="Fixed output length.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of times and lengths.")] = None,
    slo_ttft: Annotated[str | None, typer.Option(help="A good request's first token.")] = None,
    slo_tpot: Annotated[str | None, typer.Option(help="And its time per token after.")] = None,
    model: Annotated[str | None, typer.Option(help="Model name; else the only one.")] = None,
    api: Annotated[str, typer.Option(help="chat, or completions (prompts as token ids).")] = "chat",
    api_key_env: Annotated[
        str, typer.Option(help="Variable that holds the API key.")
    ] = "OPENAI_API_KEY",
    header: Annotated[
        list[str] | None, typer.Option(help='Further header, "Name: value"; repeatable.')
    ] = None,
    exact_output: Annotated[
        bool | None,
        typer.Option(help="Ask for outputs of exactly the length (ignore_eos). Default: if taken."),
    ] = None,
    stream: Annotated[bool, typer.Option(help="Ask for streams.")] = True,
    bytes_per_token: Annotated[
        float | None, typer.Option(min=2.0, help="Of text; else the endpoint's tokenizer counts.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json whose ids --api completions sends.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help='Prometheus page of the server; repeatable; "none". Default: looks.'),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: by the machine.")] = 0,
    ray: Annotated[
        str | None, typer.Option(help="Run the workers on this Ray cluster (host:port, or auto).")
    ] = None,
    realtime: Annotated[bool, typer.Option(help="Ask for SCHED_FIFO.")] = True,
    cores: Annotated[str | None, typer.Option(help="Cores the client may use, 0,2,3.")] = None,
    timeout: Annotated[str, typer.Option(help="After which an attempt is given up.")] = "60s",
    retries: Annotated[
        int, typer.Option(min=0, help="Further attempts, as OpenAI's client makes them.")
    ] = 0,
    token_times: Annotated[bool, typer.Option(help="Keep each token's time.")] = True,
    salt: Annotated[str | None, typer.Option(help="Same salt, same prompts. Default: new.")] = None,
    find_rate: Annotated[
        bool,
        typer.Option(
            "--find-rate",
            help="Instead: look for the highest rate that meets the SLO, in trials of --for (30s, "
            "longer at low rates), the first at --rate. Not with --check, --clients, --metrics, "
            "--ramp, --ray.",
        ),
    ] = False,
    good: Annotated[
        str | None, typer.Option(help="--find-rate: share that must be good. Default: 99%.")
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="Exit 1 when a smaller share is good: 95% or 0.95.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder. Default: runs/NAME-TIME; with --find-rate: no folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Load an endpoint and say what it did: open loop, timed from the intended send.

    Writes a folder with every request, a summary and a report (report.html). Requests are sent when
    the workload says, however slow the answers; a client that could not keep up makes the run
    INVALID. Ctrl-C writes what was measured. With --find-rate, the trials and the run at the rate
    found go to --output, if it is given. `forebay workloads` lists what is built in.

    Exit code 1: --check says no, or no rate meets the SLO; 2: an input is wrong; 3: nobody answers,
    or the run is INVALID.

    Example: forebay load http://localhost:8000 --workload chat --rate 5/s,10/s,20/s --for 60s
    """
    least_good, wanted = _share_or_exit("--check", check), _share_or_exit("--good", good)
    if find_rate:
        options = {"--check": check, "--clients": clients, "--metrics": metrics, "--ramp": ramp}
        _search_alone_or_exit({**options, "--ray": ray}, rate)
    elif good is not None:
        refuse("--good is for --find-rate; for the share of a run that must be good, --check")
    spec = _workload_or_exit(
        workload, rate, ramp, clients, duration, prompt_tokens, output_tokens,
        slo_ttft, slo_tpot, seed,
    )  # fmt: skip
    headers = _headers_or_exit(header or [], api_key_env)
    endpoint = _endpoint_or_exit(
        url, model, api, exact_output, stream, bytes_per_token, tokenizer, headers
    )
    from forebay.cli.find_rate import search
    from forebay.load.results import ENOUGH, Goal
    from forebay.load.run import LoadPlan

    plan = LoadPlan(
        endpoint=endpoint,
        workload=spec,
        workers=workers,
        salt=salt,
        headers=headers,
        tenant_headers=_tenant_headers(spec),
        timeout_s=_seconds_or_exit("--timeout", timeout),
        attempts=1 + retries,
        keep_token_times=token_times,
        realtime=realtime,
        cores=_cores_or_exit(cores),
    )
    if find_rate:
        if spec.trace is not None:
            refuse(
                "--find-rate: a trace has its own rate; search with a workload fitted to it: "
                "forebay record fit"
            )
        rates = _rates_or_exit("--rate", rate, ",")
        seconds = _optional_seconds("--for", duration) or 30.0
        goal = Goal(
            good_share=_GOOD if wanted is None else wanted,
            seconds=seconds,
            start=rates[0] if rates else None,
            requests=0 if duration else ENOUGH,
        )
        writable_or_exit(output)
        raise typer.Exit(search(plan, goal, output, as_json))
    writable_or_exit(output)
    measured = _measure_or_exit(plan, metrics or [], as_json, ray)
    folder = written(measured, output)
    _tell(measured, folder, as_json)
    raise typer.Exit(
        Exit.ENVIRONMENT_FAILED if folder is None else _exit_code(measured, least_good)
    )


def workloads(
    name: Annotated[str | None, typer.Argument(help="Show this one's file.")] = None,
) -> None:
    """List the workloads that are built in, or print one's file to start your own from.

    Example: forebay workloads chat > my-chat.yaml
    """
    from forebay.spec.workload import built_in_names, built_in_text, load_workload

    if name is None:
        for known in built_in_names():
            typer.echo(f"{known:<14} {load_workload(known).description}")
        return
    if name not in built_in_names():
        refuse(f"no workload {name} is built in; known: {', '.join(built_in_names())}")
    typer.echo(built_in_text(name), nl=False)


def _share_or_exit(option: str, text: str | None) -> float | None:
    from pydantic_core import PydanticCustomError

    from forebay.spec.files import parse_share

    try:
        return None if text is None else parse_share(text)
    except PydanticCustomError as error:
        refuse(f"{option}: {error.message()}; write a share such as 95% or 0.95")


def _search_alone_or_exit(options: Mapping[str, object], rate: str | None) -> None:
    """Refuses options that mean nothing in a search for the highest rate."""
    for option, value in options.items():
        if value is not None:
            refuse(f"--find-rate and {option} do not go together: {_NOT_IN_A_SEARCH[option]}")
    if rate is not None and "," in rate:
        refuse("--find-rate and --rate with stages: write the one rate that is tried first")


def _workload_or_exit(
    source: str,
    rate: str | None,
    ramp: str | None,
    clients: int | None,
    duration: str | None,
    prompt_tokens: int | None,
    output_tokens: int | None,
    slo_ttft: str | None,
    slo_tpot: str | None,
    seed: int | None,
) -> WorkloadSpec:
    from forebay.spec.files import SpecError
    from forebay.spec.workload import changed, load_workload

    if sum(option is not None for option in (rate, ramp, clients)) > 1:
        refuse("--rate, --ramp and --clients say the same thing; keep one")
    try:
        return changed(
            load_workload(source),
            rates=_rates_or_exit("--rate", rate, ","),
            ramp=_ramp_or_exit(ramp),
            clients=clients,
            seconds=_optional_seconds("--for", duration),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            slo_ttft=_optional_seconds("--slo-ttft", slo_ttft),
            slo_tpot=_optional_seconds("--slo-tpot", slo_tpot),
            seed=seed,
        )
    except SpecError as error:
        refuse("\n".join(str(problem) for problem in error.problems))


def _rates_or_exit(option: str, text: str | None, between: str) -> list[float]:
    from forebay.spec.files import parse_rate

    return (
        [parsed_or_exit(option, parse_rate, part) for part in text.split(between)] if text else []
    )


def _ramp_or_exit(text: str | None) -> tuple[float, float] | None:
    rates = _rates_or_exit("--ramp", text, "..")
    if not rates:
        return None
    if len(rates) != 2:
        refuse(f"--ramp: {text!r} is not a ramp; write 5/s..80/s")
    return rates[0], rates[1]


def _optional_seconds(option: str, text: str | None) -> float | None:
    return None if text is None else _seconds_or_exit(option, text)


def _seconds_or_exit(option: str, text: str) -> float:
    from forebay.spec.files import parse_seconds

    seconds = parsed_or_exit(option, parse_seconds, text)
    if not seconds > 0:
        refuse(f"{option}: must be above 0")
    return seconds


def _headers_or_exit(lines: list[str], key_variable: str) -> dict[str, str]:
    headers = {}
    for number, line in enumerate(lines, start=1):
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            # Without its text, which may be a secret.
            refuse(f"--header: number {number} is not a header; write 'Name: value'")
        headers[name.strip()] = sendable_or_exit(f"--header: number {number}", value)
    if not any(name.lower() == "authorization" for name in headers):
        key = key_or_exit(key_variable)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
    return headers


def _tenant_headers(spec: WorkloadSpec) -> dict[str, dict[str, str]]:
    found = {}
    for tenant in (tenant for kind in spec.requests for tenant in kind.tenants):
        if tenant.api_key_env is None:
            continue
        key = key_or_exit(tenant.api_key_env)
        if key is None:
            refuse(f"tenant {tenant.name}: the variable {tenant.api_key_env} holds no key")
        found[tenant.name] = {"Authorization": f"Bearer {key}"}
    return found


def _endpoint_or_exit(
    url: str,
    model: str | None,
    api: str,
    exact_output: bool | None,
    stream: bool,
    bytes_per_token: float | None,
    tokenizer: Path | None,
    headers: dict[str, str],
) -> Endpoint:
    from forebay.load.client import EndpointError, ProbeTarget, look_at
    from forebay.load.plan import plain_ids

    if api not in ("chat", "completions"):
        refuse(f"--api: {api!r} is neither chat nor completions")
    try:
        return look_at(
            ProbeTarget(
                url=url,
                model=model,
                api="chat" if api == "chat" else "completions",
                exact_output=exact_output,
                stream=stream,
                bytes_per_token=bytes_per_token,
                ids=tuple(plain_ids(tokenizer)) if tokenizer else None,
                headers=headers,
            )
        )
    except (ValueError, OSError) as error:
        refuse(str(error))
    except EndpointError as error:
        fail(str(error))


def _cores_or_exit(text: str | None) -> list[int] | None:
    import os

    if text is None:
        return None
    try:
        cores = sorted({int(part) for part in text.split(",")})
    except ValueError:
        refuse(f"--cores: {text!r} is not a list of core numbers; write 0,2,3")
    absent = set(cores) - os.sched_getaffinity(0)
    if absent:
        refuse(f"--cores: this machine has no core {min(absent)} for it")
    return cores


def _metrics(base_url: str, asked: list[str]) -> list[str]:
    """The pages to read: those named, else the endpoint's own or Forebay's beside it."""
    from http.client import HTTPException
    from urllib.parse import urlsplit

    from forebay.load.results import fetch, metrics_of, without_credentials
    from forebay.spec.service.server_spec import ServerSpec

    if asked == ["none"]:
        return []
    pages = [url if "://" in url else f"http://{url}" for url in asked]
    for url in pages:
        try:
            fetch(url)
        except (OSError, ValueError, HTTPException) as error:
            why = getattr(error, "reason", None) or error
            refuse(f"--metrics: {without_credentials(url)} cannot be read: {why}")
    if pages:
        return pages
    host = urlsplit(base_url).hostname
    beside = f"http://{host}:{ServerSpec().metrics_port}/metrics"
    found = metrics_of(base_url, [beside])
    return [found] if found else []


def _measure_or_exit(
    plan: LoadPlan, metrics: list[str], as_json: bool, ray: str | None
) -> Measured:
    from forebay.cli.load_progress import trace_lines, watching
    from forebay.load.results import measure, status_reader
    from forebay.load.run.runner import WorkerFailedError

    pages = _metrics(plan.endpoint.url, metrics)
    status = None if metrics == ["none"] else status_reader(plan)
    crew = _ray_workers(ray) if ray else None
    try:
        for line in trace_lines(plan.workload):
            typer.echo(line, err=True)
        with watching(plan.workload, quiet=as_json) as tick:
            return measure(plan, pages, tick, crew, status)
    except WorkerFailedError as error:
        fail(str(error))
    except (ValueError, OSError) as error:  # a file that the workload names
        refuse(str(error))
    except KeyboardInterrupt:
        typer.echo("\nstopped before anything was sent", err=True)
        raise typer.Exit(Exit.ENVIRONMENT_FAILED) from None


def _ray_workers(address: str) -> Callable[[Sequence[WorkerPlan]], Workers]:
    from importlib.util import find_spec

    if find_spec("ray") is None:
        refuse("--ray needs Ray: pip install 'ray[default]'")
    from forebay.serving.cluster import RayCrew

    return lambda orders: RayCrew(orders, address)


def _tell(measured: Measured, folder: Path | None, as_json: bool) -> None:
    import json

    from forebay.cli.load_progress import print_result

    if as_json:
        where = None if folder is None else str(folder)
        typer.echo(json.dumps({"folder": where, **measured.summary()}, allow_nan=False))
    else:
        print_result(measured, folder)


def _exit_code(measured: Measured, check: float | None) -> Exit:
    if not measured.run.validity.valid:
        return Exit.ENVIRONMENT_FAILED
    summary = measured.run.summary
    # Of users who left, nobody knows what they would have got.
    judged = summary.offered - summary.cancelled - summary.stopped
    if check is not None and (not judged or summary.good < check * judged):
        return Exit.CHECK_SAYS_NO
    return Exit.FINE
