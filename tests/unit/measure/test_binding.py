from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import any_record, sample

from forebay.measure import Binding, RequestRecord, gather_evidence
from forebay.measure.binding import Evidence, ServerSample, binding

NOT_READ = "weaker evidence: the server's metrics were not read"


def series(count: int = 30, **columns: float | Sequence[float]) -> list[ServerSample]:
    """One sample a second; a column that is a sequence is repeated."""
    rows = []
    for t in range(count):
        values = {
            name: column if isinstance(column, int | float) else column[t % len(column)]
            for name, column in columns.items()
        }
        rows.append(ServerSample(t=float(t), **values))
    return rows


def run(**changes: Any) -> Evidence:
    """1,000 requests at 40/s, all good: TTFT p99 0.2 s of 1 s, TPOT p99 30 ms of 100 ms."""
    values: dict[str, Any] = {
        "slo_ttft_s": 1.0,
        "slo_tpot_s": 0.1,
        "offered": 1000,
        "offered_per_s": 40.0,
        "good": 1000,
        "ttft_p99": 0.2,
        "tpot_p50": 0.02,
        "tpot_p99": 0.03,
        "client_lag_p99_s": 0.002,
        "server": series(queued_requests=0, queued_tokens=0, running=10, kv_usage=0.3),
    }
    return Evidence(**(values | changes))


def slow(**changes: Any) -> Evidence:
    """Half of it waited too long for a first token."""
    return run(**({"good": 500, "ttft_p99": 4.0} | changes))


QUEUE = {"queued_requests": 50, "queued_tokens": 9000}
NO_QUEUE = {"queued_requests": 0, "queued_tokens": 0}

CASES: list[tuple[str, Evidence, str, str, str]] = [
    # name, evidence, what, a figure of the evidence, a word of the setting
    ("all is well", run(), "nothing", "100 % good", "higher rate"),
    ("a burst queued", run(server=series(queued_requests=[3] + [0] * 14)), "nothing", "6.67 %", ""),
    ("nothing offered", run(offered=0, valid=False), "nothing", "", "above 0"),
    (
        "a late client, whatever else",
        slow(client_lag_p99_s=0.031, server=series(**QUEUE, running=64), max_num_seqs=64),
        "client",
        "client lag p99 31 ms, at most 20 ms",
        "workers",
    ),
    ("no sockets", slow(no_socket=100, failed=100), "client", "100 of 1000", "ulimit"),
    (
        "another reason to doubt the run",
        run(valid=False, invalid_because="the client stood still"),
        "client",
        "the client stood still",
        "again",
    ),
    (
        "KV is full and requests wait",
        slow(server=series(**QUEUE, running=40, kv_usage=0.97), max_num_seqs=64),
        "kv",
        "KV usage p95 97 %",
        "gpu_memory_utilization",
    ),
    (
        "sequences are preempted",
        slow(server=series(**QUEUE, running=64, preemptions_per_s=[0, 3]), max_num_seqs=64),
        "kv",
        "preemptions/s 1.5",
        "gpu_memory_utilization",
    ),
    ("KV is full, nobody waits", run(server=series(**NO_QUEUE, kv_usage=1.0)), "nothing", "", ""),
    (
        "every slot is taken",
        slow(server=series(**QUEUE, running=[62, 63, 64]), max_num_seqs=64),
        "sequence slots",
        "63 of 64 running",
        "max_num_seqs above 64",
    ),
    (
        "every slot is taken while anything waits",
        slow(server=series(queued_requests=[0, 0, 9], running=[2, 2, 64]), max_num_seqs=64),
        "sequence slots",
        "64 of 64 running",
        "max_num_seqs",
    ),
    (
        "every slot is taken, and yet all are good",
        run(server=series(**QUEUE, running=64), max_num_seqs=64),
        "sequence slots",
        "64 of 64 running",
        "max_num_seqs",
    ),
    (
        "running stands at a plateau of unknown height",
        slow(server=series(**QUEUE, running=[31, 32, 32])),
        "sequence slots",
        "32 running",
        "max_num_seqs higher",
    ),
    (
        "slots are taken but tokens are slow already",
        slow(tpot_p50=0.15, tpot_p99=0.2, server=series(**QUEUE, running=64), max_num_seqs=64),
        "decode",
        "TPOT p99 200 ms for an SLO of 100 ms",
        "replicas",
    ),
    (
        "only the tail of TPOT is slow",
        slow(ttft_p99=0.3, tpot_p99=0.2),
        "decode",
        "TPOT p99 200 ms",
        "long_prefill_token_threshold",
    ),
    (
        "more sequences bring no more tokens",
        slow(
            slo_tpot_s=None,
            server=series(queued_requests=0, running=[10, 20, 40], output_tokens_per_s=500),
        ),
        "decode",
        "500 output tokens/s with 40 running, 500 with 10",
        "replicas",
    ),
    (
        "prompts queue while few are running",
        slow(server=series(**QUEUE, running=[5, 20], prompt_tokens_per_s=8000), max_num_seqs=64),
        "prefill",
        "prompt tokens/s 8,000",
        "max_num_batched_tokens",
    ),
    (
        "what would queue longer is shed",
        run(good=600, shed=400, server=series(**QUEUE, running=[5, 20]), max_num_seqs=64),
        "prefill",
        "40 % shed",
        "max_num_batched_tokens",
    ),
    (
        "slow while the engine is idle",
        slow(server=series(**NO_QUEUE, running=3), max_num_seqs=64),
        "front end",
        "TTFT p99 4 s for an SLO of 1 s",
        "api_server_count",
    ),
    (
        "steady tokens from a steady batch say nothing of decode",
        slow(slo_tpot_s=None, server=series(**NO_QUEUE, running=3, output_tokens_per_s=500)),
        "front end",
        "3 running",
        "",
    ),
    ("connections refused", slow(ttft_p99=0.2, unconnected=500), "front end", "50 %", "replicas"),
    (
        "shed while nothing is queued",
        run(good=600, shed=400),
        "nothing",
        "40 % shed",
        "table of outcomes",
    ),
    ("failures", run(good=0, failed=1000, ttft_p99=None), "nothing", "100 % failed", "outcomes"),
    ("all left", run(good=0, left=1000, ttft_p99=None, tpot_p99=None), "nothing", "", "outcomes"),
    ("the client alone: well", run(server=()), "nothing", NOT_READ, "higher rate"),
    ("the client alone: slow tokens", slow(tpot_p99=0.3, server=()), "decode", NOT_READ, ""),
    ("the client alone: slow start", slow(server=()), "prefill", NOT_READ, "metrics read"),
    ("the client alone: sheds", run(good=500, shed=500, server=()), "prefill", "50 % shed", ""),
    (
        "the client alone: refused connections",
        run(good=0, failed=1000, unconnected=1000, ttft_p99=None, server=()),
        "front end",
        NOT_READ,
        "was up",
    ),
]


@pytest.mark.parametrize(
    ("evidence", "what", "figure", "setting"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_binds(evidence: Evidence, what: str, figure: str, setting: str) -> None:
    verdict = binding(evidence)
    assert verdict.what == what
    assert figure in "; ".join(verdict.evidence)
    assert setting in verdict.setting


def test_the_whole_verdict_is_one_line() -> None:
    verdict = Binding("kv", "KV blocks bind.", ["KV usage p95 97 %", "2 preemptions/s"], "more")
    assert verdict.line == "KV blocks bind. KV usage p95 97 %; 2 preemptions/s. Try: more."
    assert Binding("nothing", "Nothing.", [], "load").line == "Nothing. Try: load."


numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 100))
samples = st.lists(
    st.builds(
        ServerSample,
        t=st.floats(0, 100),
        queued_requests=numbers,
        queued_tokens=numbers,
        running=numbers,
        kv_usage=numbers,
        preemptions_per_s=numbers,
        prompt_tokens_per_s=numbers,
        output_tokens_per_s=numbers,
    ),
    max_size=30,
)
counts = st.integers(0, 100)


@given(
    st.builds(
        Evidence,
        slo_ttft_s=st.floats(0.001, 10),
        slo_tpot_s=st.one_of(st.none(), st.floats(0.001, 1)),
        valid=st.booleans(),
        offered=counts,
        good=counts,
        shed=counts,
        failed=counts,
        left=counts,
        unconnected=counts,
        no_socket=counts,
        ttft_p99=numbers,
        tpot_p50=numbers,
        tpot_p99=numbers,
        client_lag_p99_s=numbers,
        server=samples,
        max_num_seqs=st.one_of(st.none(), st.integers(1, 256)),
    )
)
def test_any_evidence_has_a_verdict_with_a_setting(evidence: Evidence) -> None:
    verdict = binding(evidence)
    assert verdict == binding(evidence)
    assert verdict.sentence.endswith(".")
    assert verdict.setting
    assert "None" not in verdict.line


@given(st.lists(any_record(), max_size=30), samples)
def test_evidence_of_any_run_counts_each_request_once(
    records: list[RequestRecord], server: list[ServerSample]
) -> None:
    found = gather_evidence(records, duration_s=60.0, slo_ttft_s=1.0, server=server)
    unfinished = found.shed + found.failed + found.left
    assert found.offered == len(records) == unfinished + sum(r.outcome == "ok" for r in records)
    assert found.good <= found.judged
    assert binding(found).setting


def test_who_is_over_its_quota_is_no_sign_of_too_few_engines() -> None:
    def sent(n: int, **more: Any) -> RequestRecord:
        times = {"intended_s": float(n), "sent_s": float(n), "first_token_s": n + 0.1}
        return sample(**{"index": n, "last_token_s": n + 1.0, "ended_s": n + 1.0, **times, **more})

    served = [sent(n) for n in range(60)]
    refused = {"outcome": "shed", "status": 429, "first_token_s": None, "last_token_s": None}
    queued = [ServerSample(t=float(t), queued_requests=1.0) for t in range(60)]

    def what(reason: str) -> str:
        shed = [sent(n, reason=reason, tokens_out=0, **refused) for n in range(30)]
        found = gather_evidence(
            served + shed, duration_s=60.0, slo_ttft_s=1.0, slo_tpot_s=1.0, server=queued
        )
        return binding(found).what

    assert (what("quota"), what("ttft_budget")) == ("nothing", "prefill")


def test_the_heaviest_stage_is_judged_alone() -> None:
    quiet = [sample(index=n, intended_s=float(n), first_token_s=n + 0.1) for n in range(10)]
    heavy = [sample(index=n, intended_s=10 + n / 10, first_token_s=15 + n / 10) for n in range(100)]
    found = gather_evidence(
        quiet + heavy,
        duration_s=20.0,
        slo_ttft_s=1.0,
        server=series(20, queued_requests=[0] * 10 + [9] * 10),
        stages=[(0.0, 10.0), (10.0, 20.0)],
    )
    assert (found.offered, found.offered_per_s, found.good) == (100, 10.0, 0)
    assert found.ttft_p99 == pytest.approx(5.0)
    assert [s.queued_requests for s in found.server] == [9] * 10


def test_without_stages_the_whole_run_is_judged() -> None:
    found = gather_evidence([sample(intended_s=70.0)], duration_s=60.0, slo_ttft_s=1.0)
    assert found.offered == 1


@pytest.mark.parametrize("span", [(5.0, 5.0), (6.0, 5.0), (0.0, math.nan)])
def test_a_stage_that_does_not_last_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="nothing lies between"):
        gather_evidence([], duration_s=60.0, slo_ttft_s=1.0, stages=[(0.0, 5.0), span])
