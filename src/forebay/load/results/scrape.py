"""The server's own word during a run: its Prometheus metrics, once a second, on the run's clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from statistics import fmean

from prometheus_client.parser import text_string_to_metric_families

from forebay.load.client import open_directly
from forebay.measure import ServerSample

_PERIOD_S = 1.0
_TIMEOUT_S = 2.0
_MOST_BYTES = 16 << 20


# Names by preference: Forebay's own through Ray, vLLM's through Ray or bare, SGLang's.
_GAUGES: Mapping[str, Sequence[str]] = {
    "queued_requests": (
        "ray_forebay_queued_requests", "ray_vllm_num_requests_waiting",
        "vllm:num_requests_waiting", "sglang:num_queue_reqs",
    ),
    "queued_tokens": ("ray_forebay_queued_tokens",),
    "running": (
        "ray_forebay_running_requests", "ray_vllm_num_requests_running",
        "vllm:num_requests_running", "sglang:num_running_reqs",
    ),
    "slots": ("ray_forebay_sequence_slots",),
    "emulation_late": ("ray_forebay_emulation_late_ratio",),
    "kv_usage": (
        "ray_forebay_kv_usage_ratio", "ray_vllm_kv_cache_usage_perc",
        "vllm:kv_cache_usage_perc", "sglang:token_usage",
    ),
}  # fmt: skip
_COUNTERS: Mapping[str, Sequence[str]] = {
    "shed_per_s": ("ray_forebay_requests_shed",),
    "preemptions_per_s": ("ray_vllm_num_preemptions", "vllm:num_preemptions"),
    "prompt_tokens_per_s": (
        "ray_forebay_prompt_tokens", "ray_vllm_prompt_tokens", "vllm:prompt_tokens",
        "sglang:prompt_tokens",
    ),
    "output_tokens_per_s": (
        "ray_forebay_output_tokens", "ray_vllm_generation_tokens", "vllm:generation_tokens",
        "sglang:generation_tokens",
    ),
    "cached_tokens_per_s": (
        "ray_forebay_cached_prompt_tokens", "ray_vllm_prefix_cache_hits", "vllm:prefix_cache_hits",
    ),
}  # fmt: skip
_TOGETHER: Mapping[str, Callable[[Sequence[float]], float]] = {
    "kv_usage": fmean,
    "emulation_late": max,
}
_WANTED = frozenset(name for known in (*_GAUGES.values(), *_COUNTERS.values()) for name in known)


def read_metrics(page: str) -> dict[str, list[float]]:
    """The series of the metrics that are known here, by name; a counter's ``_total`` dropped.

    Raises:
        ValueError: the page is not in the Prometheus text format.
    """
    # A Ray node exports thousands of lines; parsing all of them takes a tenth of a second.
    kept = [line for line in page.splitlines() if _name(line) in _WANTED]
    found: dict[str, list[float]] = {}
    for family in text_string_to_metric_families("\n".join(kept) + "\n"):
        for sample in family.samples:
            found.setdefault(sample.name.removesuffix("_total"), []).append(float(sample.value))
    return found


def _name(line: str) -> str:
    if line.startswith("#"):
        return ""
    return line.partition("{")[0].partition(" ")[0].removesuffix("_total")


class Readings:
    """Turns pages into samples; rates need the page before.

    A server may make its page anew less often than it is read (Ray: every 5 s under Forebay, 10 s
    by default). A page that says what the one before said is no new sample: a value that stood
    still for want of news is not a plateau.
    """

    def __init__(self) -> None:
        self._before: tuple[float, dict[str, float]] | None = None
        self._seen: dict[str, list[float]] | None = None

    def sample(self, t: float, pages: Sequence[str]) -> ServerSample | None:
        """The fleet at second `t`, from one page of each of its nodes; None without news.

        Raises:
            ValueError: a page is not in the Prometheus text format.
        """
        series: dict[str, list[float]] = {}
        for page in pages:
            for name, values in read_metrics(page).items():
                series.setdefault(name, []).extend(values)
        if series == self._seen:
            return None
        self._seen = series
        figures: dict[str, float | None] = {
            field: _first(series, names, field) for field, names in _GAUGES.items()
        }
        totals = {
            field: total
            for field, names in _COUNTERS.items()
            if (total := _first(series, names, field)) is not None
        }
        figures |= self._rates(t, totals)
        return ServerSample(t=t, **figures)

    def _rates(self, t: float, totals: dict[str, float]) -> dict[str, float | None]:
        before, self._before = self._before, (t, totals)
        if before is None or t <= before[0]:
            return {}
        # A counter that fell was a replica's that left; that second has no rate.
        return {
            name: (total - before[1][name]) / (t - before[0])
            for name, total in totals.items()
            if name in before[1] and total >= before[1][name]
        }


def _first(series: Mapping[str, list[float]], names: Sequence[str], field: str) -> float | None:
    for name in names:
        if name in series:
            return float(_TOGETHER.get(field, sum)(series[name]))
    return None


def fetch(url: str) -> str:
    """One metrics page.

    Raises:
        OSError: nobody answers, or not with 200.
        ValueError: it is not text.
    """
    with open_directly(url, _TIMEOUT_S) as answer:
        page: bytes = answer.read(_MOST_BYTES)
    return page.decode()


def metrics_of(base_url: str, candidates: Sequence[str]) -> str | None:
    """The first of some addresses that has metrics of an inference server; None when none has.

    Where none has them yet, the first with any metrics: a server that just started exports its own
    some seconds later.
    """
    any_metrics = None
    for url in [f"{base_url}/metrics", *candidates]:
        try:
            page = fetch(url)
            if read_metrics(page):
                return url
        except (OSError, ValueError, HTTPException):  # or something that speaks no HTTP
            continue
        if any_metrics is None and "# TYPE " in page:
            any_metrics = url
    return any_metrics


class Scraper:
    """Reads pages once a second in a thread of its own, from second 0 to `stop`."""

    def __init__(
        self, urls: Sequence[str], read: Callable[[str], str] = fetch, period_s: float = _PERIOD_S
    ) -> None:
        self.samples: list[ServerSample] = []
        self.failures = 0
        self._urls = urls
        self._read = read
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, start_at: float) -> None:
        """Begins; `start_at` is second 0, as `time.time` has it."""
        self._thread = threading.Thread(target=self._run, args=(start_at,), daemon=True)
        self._thread.start()

    def stop(self) -> list[ServerSample]:
        """Ends; what was read."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return self.samples

    def _run(self, start_at: float) -> None:
        readings, due = Readings(), start_at
        while not self._stop.wait(max(0.0, due - time.time())):
            try:
                pages = [self._read(url) for url in self._urls]
                sample = readings.sample(time.time() - start_at, pages)
                if sample is not None:
                    self.samples.append(sample)
            except (OSError, ValueError, HTTPException):
                self.failures += 1  # a gap in a chart is no reason to stop a run
            due = max(due + self._period_s, time.time())
