"""Load tests for the page's tests: drawn from a queue, or made of single requests."""

from __future__ import annotations

from typing import Any

import numpy as np

from forebay.measure import ClientFacts, RequestRecord, ServerSample, gather_evidence
from forebay.measure.binding import binding
from forebay.measure.windows import windows
from forebay.report import LoadReport, LoadStage

SLO_TTFT_S, SLO_TPOT_S = 1.0, 0.1
CAPACITY = 40.0  # requests/s that the queue serves
STAGE_S = 20.0
FACTORS = (0.5, 1.0, 2.0, 0.5)
KINDS = ("chat", "rag", "code")


def request(index: int = 0, at: float = 1.0, **changes: Any) -> RequestRecord:
    """One good request: first token after 0.2 s, 48 tokens until 1.2 s."""
    values: dict[str, Any] = {
        "index": index,
        "intended_s": at,
        "sent_s": at + 0.001,
        "first_token_s": at + 0.2,
        "last_token_s": at + 1.2,
        "ended_s": at + 1.2,
        "status": 200,
        "outcome": "ok",
        "tokens_out": 48,
        "prompt_tokens": 180,
        "kind": "chat",
        "class_name": "interactive",
        "tenant": "blue",
    }
    return RequestRecord(**(values | changes))


def shed(index: int, at: float, **changes: Any) -> RequestRecord:
    """A refusal after 4 ms."""
    return request(
        index, at, outcome="shed", status=429, first_token_s=None, last_token_s=None,
        ended_s=at + 0.004, tokens_out=0, reason="predicted TTFT beyond 1 s", **changes,
    )  # fmt: skip


def failure(index: int, at: float, outcome: str = "timeout", **changes: Any) -> RequestRecord:
    """No answer within 30 s, or another failure."""
    return request(
        index, at, outcome=outcome, status=0, first_token_s=None, last_token_s=None,
        ended_s=at + 30, tokens_out=0, **({"reason": "no answer"} | changes),
    )  # fmt: skip


def queue_run(seed: int = 0, scale: float = 1.0) -> list[RequestRecord]:
    """Stages at 0.5, 1, 2 and 0.5 times a capacity; `scale` times the requests in the same time."""
    rng = np.random.default_rng(seed)
    rates = [factor * CAPACITY * scale for factor in FACTORS]
    starts = [STAGE_S * n for n in range(len(FACTORS))]
    at = np.concatenate(
        [
            np.sort(start + STAGE_S * rng.random(rng.poisson(rate * STAGE_S)))
            for start, rate in zip(starts, rates, strict=True)
        ]
    )
    free_s, made = 0.0, []
    for index, sent in enumerate(at.tolist()):
        made.append(_served(index, sent, max(0.0, free_s - sent), rng))
        if made[-1].outcome != "shed":
            free_s = max(free_s, sent) + rng.lognormal(np.log(0.95 / CAPACITY / scale), 0.3)
    return made


def _served(index: int, at: float, wait: float, rng: np.random.Generator) -> RequestRecord:
    kind = KINDS[index % 7 % 3]
    owner = {"kind": kind, "tenant": ("blue", "green")[index % 2]}
    if wait > 1.1:
        return shed(index, at, **owner)
    first = at + wait + rng.lognormal(-3.4, 0.45)
    last = first + 47 * rng.lognormal(-3.6, 0.2)
    chance = rng.random()
    if chance < 0.004:
        return failure(index, at, ("timeout", "dropped")[index % 2], **owner)
    outcome = "cut" if chance < 0.006 else "cancelled" if chance < 0.012 else "ok"
    return request(index, at, first_token_s=first, last_token_s=last, ended_s=last,
                   outcome=outcome, **owner)  # fmt: skip


def server_series(run: list[RequestRecord]) -> list[ServerSample]:
    """What a server would have told of a run, once a second."""
    first = np.array([r.first_token_s or r.intended_s for r in run])
    at, end = np.array([r.intended_s for r in run]), np.array([r.ended_s for r in run])
    samples = []
    for t in np.arange(0.5, STAGE_S * len(FACTORS), 1.0).tolist():
        queued = float(np.count_nonzero((at <= t) & (first > t)))
        running = float(np.count_nonzero((first <= t) & (end > t)))
        samples.append(
            ServerSample(
                t=t, queued_requests=queued, queued_tokens=180 * queued, running=running,
                kv_usage=min(1.0, running / 60), preemptions_per_s=0.0,
                prompt_tokens_per_s=180 * min(CAPACITY, queued + 20), shed_per_s=queued / 8,
                output_tokens_per_s=running * 36,
            )
        )  # fmt: skip
    return samples


def load_report(run: list[RequestRecord] | None = None, **changes: Any) -> LoadReport:
    """A report of a run, by default that of `queue_run` with its server's series."""
    server = server_series(queue_run()) if run is None else []
    run = queue_run() if run is None else run
    stages = [
        LoadStage(f"stage {n + 1}", n * STAGE_S, (n + 1) * STAGE_S, factor * CAPACITY)
        for n, factor in enumerate(FACTORS)
    ]
    evidence = gather_evidence(
        run,
        duration_s=80.0,
        slo_ttft_s=SLO_TTFT_S,
        slo_tpot_s=SLO_TPOT_S,
        server=server,
        valid=changes.get("valid", True),
        invalid_because="; ".join(changes.get("validity_reasons", ())),
    )
    values: dict[str, Any] = {
        "title": "Chat at twice its capacity",
        "target": "http://127.0.0.1:8000/v1",
        "model": "demo",
        "workload": "chat",
        "workload_text": "conversations of 3 turns, 180 tokens in, 48 out",
        "started_at": "2026-07-01 12:00:00 UTC",
        "duration_s": 80.0,
        "slo_ttft_s": SLO_TTFT_S,
        "slo_tpot_s": SLO_TPOT_S,
        "records": run,
        "binding": binding(evidence),
        "client": ClientFacts(
            lag_p50_s=0.0003, lag_p99_s=0.0016, lag_max_s=0.0042, stall_max_s=0.006,
            cpu_share=0.21, realtime=True, planned=len(run), begun=len(run),
        ),
        "valid": True,
        "validity_reasons": ["client lag p99 1.6 ms, at most 20.0 ms"],
        "stages": stages,
        "windows": windows(run, 1.0, SLO_TTFT_S, SLO_TPOT_S),
        "server": server,
        "footer": "forebay 0.1.0; prompt lengths exact",
    }  # fmt: skip
    return LoadReport(**(values | changes))
