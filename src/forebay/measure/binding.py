"""Which resource binds: the one that a run ran into, with the figures that say so.

The rules are tried in the order of `_RULES`; the first that matches speaks. What makes other
figures worthless comes first (a late client), then what a wrong setting would make worse (more
sequence slots do not help where KV blocks run out), then what is left when these are excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from forebay.measure.evidence import Evidence, ServerSample, gather_evidence
from forebay.measure.evidence_words import (
    before_first,
    figure,
    good,
    queue,
    rate,
    running,
    seconds,
    share,
    told,
    tpot,
)
from forebay.measure.pressure import Pressure, pressure
from forebay.measure.validity import MAX_CLIENT_LAG_S

__all__ = ["Binding", "Evidence", "ServerSample", "binding", "gather_evidence"]

What = Literal["prefill", "decode", "kv", "sequence slots", "front end", "client", "nothing"]

# vLLM admits a waiting prompt only when all its blocks are free: near 95 % the head of the queue
# often does not fit, whatever the other limits allow.
_KV_FULL = 0.95
# Single preemptions come with any burst; one sample in twenty is a lasting shortage.
_PREEMPTING = 0.05
# Below this share of samples with a queue, the p99 of the wait cannot have come from the queue.
_QUEUED = 0.1
# The engine's count lies a little under its limit whenever a sequence has just ended, and Forebay
# counts only sequences past their first token.
_SLOTS_FULL = 0.9
# Without the limit: a batch that stays within 5 % of its highest value in 4 of 5 samples is capped;
# one limited by anything else varies with its arrivals.
_PLATEAU, _ON_PLATEAU = 0.95, 0.8
_FEWEST_SAMPLES = 8  # of which four in five are a plateau rather than a coincidence
# Failures beyond the share that a p99 objective leaves.
_FEW = 0.01
_NO_SERVER = "weaker evidence: the server's metrics were not read"


@dataclass(frozen=True, slots=True)
class Binding:
    """A verdict.

    Attributes:
        what: the resource that binds.
        sentence: the verdict in words.
        evidence: the figures behind it.
        setting: one thing to try.
    """

    what: What
    sentence: str
    evidence: Sequence[str]
    setting: str

    @property
    def line(self) -> str:
        """All of it in one line."""
        figures = f" {'; '.join(self.evidence)}." if self.evidence else ""
        return f"{self.sentence}{figures} Try: {self.setting}."


def binding(evidence: Evidence) -> Binding:
    """Names the resource that bound, from the client's and the server's figures together."""
    server = pressure(evidence.server)
    verdict = next(found for rule in _RULES if (found := rule(evidence, server)) is not None)
    if evidence.offered and not server.told and verdict.what != "client":
        return replace(verdict, evidence=[*verdict.evidence, _NO_SERVER])
    return verdict


def _unasked(run: Evidence, _: Pressure) -> Binding | None:
    if run.offered:
        return None
    sentence = "Nothing was measured: no request was offered."
    return Binding("nothing", sentence, [], "a load above 0")


def _no_socket(run: Evidence, _: Pressure) -> Binding | None:
    if run.no_socket <= _FEW * run.offered:
        return None
    return Binding(
        "client",
        "The client binds: its machine gave it no more sockets.",
        [f"no socket for {run.no_socket} of {run.offered} requests"],
        "a higher file limit (ulimit -n) or port range, or more client machines",
    )


def _late_client(run: Evidence, _: Pressure) -> Binding | None:
    lag = run.client_lag_p99_s
    if lag is None or lag <= MAX_CLIENT_LAG_S:
        return None
    return Binding(
        "client",
        "The client binds: it sent late, and part of every latency is its own.",
        [f"client lag p99 {seconds(lag)}, at most {seconds(MAX_CLIENT_LAG_S)} is valid"],
        "more load workers, real-time scheduling, or a client on cores of its own",
    )


def _invalid(run: Evidence, _: Pressure) -> Binding | None:
    if run.valid:
        return None
    return Binding(
        "client",
        "The run is not valid, so no resource of the server is named.",
        [run.invalid_because] if run.invalid_because else [],
        "the same load again once its reason is gone",
    )


def _nothing(run: Evidence, server: Pressure) -> Binding | None:
    quiet = (server.queue_share or 0.0) <= _QUEUED and not _kv_short(server)
    return _holds(run, server) if run.kept and quiet else None


def _kv(run: Evidence, server: Pressure) -> Binding | None:
    if not _kv_short(server):
        return None
    figures = [
        figure("KV usage p95", server.kv_p95, share),
        figure("preemptions/s", server.preemptions_per_s or None, rate),
        *queue(server),
        *running(run, server),
    ]
    return Binding(
        "kv",
        "KV blocks bind: sequences wait, or are put back, for want of them.",
        told(figures),
        "gpu_memory_utilization higher (on CPU, VLLM_CPU_KVCACHE_SPACE), for more KV blocks",
    )


def _slots(run: Evidence, server: Pressure) -> Binding | None:
    """Not while TPOT misses its SLO: more sequences would slow each of them further."""
    if not server.running or (server.queue_share or 0.0) <= _QUEUED or _tpot_missed(run):
        return None
    if run.max_num_seqs is not None:
        full = server.running_share(_SLOTS_FULL * run.max_num_seqs) >= 0.5
        setting = f"max_num_seqs above {run.max_num_seqs}, while TPOT leaves room"
    else:
        top = max(server.running)
        enough = len(server.running) >= _FEWEST_SAMPLES
        full = enough and top > 1 and server.running_share(_PLATEAU * top) >= _ON_PLATEAU
        setting = "max_num_seqs higher, while TPOT leaves room"
    if not full:
        return None
    return Binding(
        "sequence slots",
        "Sequence slots bind: requests wait while all that may run at once are running.",
        told([*running(run, server), *queue(server), tpot(run)]),
        setting,
    )


def _decode(run: Evidence, server: Pressure) -> Binding | None:
    missed = _tpot_missed(run)
    if not missed and (server.flat is None or run.kept):
        return None
    figures = [tpot(run), *running(run, server)]
    if server.flat is not None:
        (few, slow), (many, fast) = server.flat
        figures.append(
            f"{rate(fast)} output tokens/s with {many:.0f} running, {rate(slow)} with {few:.0f}"
        )
    else:
        figures.append(figure("output tokens/s", server.output_tokens_per_s, rate))
    if missed and run.tpot_p50 is not None and run.tpot_p50 <= (run.slo_tpot_s or 0.0):
        # A median within the SLO: the slow steps are those shared with someone's long prompt.
        setting = "a long_prefill_token_threshold: only the tail of TPOT is slow"
    else:
        setting = "more replicas (on one, max_num_seqs lower: fewer sequences share a step)"
    return Binding(
        "decode",
        "Decode binds: the tokens after the first come too slowly.",
        told(figures),
        setting,
    )


def _prefill(run: Evidence, server: Pressure) -> Binding | None:
    if not _waited(run) or (server.queue_share or 0.0) <= _QUEUED:
        return None
    figures = [
        *queue(server),
        figure("prompt tokens/s", server.prompt_tokens_per_s, rate),
        *running(run, server),
        *before_first(run),
        tpot(run),
    ]
    return Binding(
        "prefill",
        "Prefill binds: prompts queue faster than they are computed.",
        told(figures),
        "max_num_batched_tokens higher while TPOT leaves room; beyond that, more replicas",
    )


def _no_connection(run: Evidence, _: Pressure) -> Binding | None:
    if run.unconnected <= _FEW * run.offered:
        return None
    lost = share(run.unconnected / run.offered)
    return Binding(
        "front end",
        "The front end binds: connections were refused, or closed without an answer.",
        [f"{lost} of requests, {run.unconnected} of {run.offered}"],
        "more replicas, after a look at whether the server was up throughout",
    )


def _front_end(run: Evidence, server: Pressure) -> Binding | None:
    if server.queue_share is None or server.queue_share > _QUEUED or not _ttft_missed(run):
        return None
    batch = server.running_p50
    if run.max_num_seqs and batch is not None and batch >= run.max_num_seqs / 2:
        return None
    return Binding(
        "front end",
        "The front end binds: time is lost before requests reach the engine.",
        told([*before_first(run), *queue(server), *running(run, server)]),
        "more replicas (plain vLLM: api_server_count): more processes that parse and stream",
    )


def _unseen_wait(run: Evidence, server: Pressure) -> Binding | None:
    if server.queue_share is not None or not _waited(run):
        return None
    return Binding(
        "prefill",
        "Prefill, sequence slots or KV blocks bind: the time is lost before the first token.",
        told([*before_first(run), tpot(run)]),
        "the same load with the server's metrics read, then max_num_batched_tokens higher",
    )


def _undecided(run: Evidence, server: Pressure) -> Binding | None:
    if run.kept:
        return _holds(run, server)
    failed = share(run.failed / run.offered) if run.failed else None
    figures = [
        good(run),
        *before_first(run),
        f"{failed} failed" if failed else None,
        *queue(server),
        *running(run, server),
    ]
    return Binding(
        "nothing",
        "No resource shows itself as binding, though requests were not good.",
        told(figures),
        "the reasons in the table of outcomes first: they say what refused or failed them",
    )


def _holds(run: Evidence, server: Pressure) -> Binding:
    return Binding(
        "nothing",
        f"Nothing binds at the {rate(run.offered_per_s)} requests/s offered.",
        told([good(run), *before_first(run), tpot(run), *queue(server)]),
        "a higher rate: how much headroom lies beyond this one is not known",
    )


_RULES: tuple[Callable[[Evidence, Pressure], Binding | None], ...] = (
    _unasked,
    _no_socket,
    _late_client,
    _invalid,
    _nothing,
    _kv,
    _slots,
    _decode,
    _prefill,
    _no_connection,
    _front_end,
    _unseen_wait,
    _undecided,
)


def _kv_short(server: Pressure) -> bool:
    """Blocks that are all in use harm nobody until someone waits for one."""
    full = (server.kv_p95 or 0.0) >= _KV_FULL
    waiting = server.queue_share is None or server.queue_share > _QUEUED
    return (full and waiting) or (server.preempting_share or 0.0) >= _PREEMPTING


def _ttft_missed(run: Evidence) -> bool:
    return run.ttft_p99 is not None and run.ttft_p99 > run.slo_ttft_s


def _tpot_missed(run: Evidence) -> bool:
    return run.slo_tpot_s is not None and (run.tpot_p99 or 0.0) > run.slo_tpot_s


def _waited(run: Evidence) -> bool:
    """Whether requests waited too long for a first token, or were refused since they would."""
    return _ttft_missed(run) or run.shed - run.over_quota > _FEW * run.offered
