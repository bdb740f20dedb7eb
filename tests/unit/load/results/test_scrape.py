"""The server's series, from pages as Ray's agent, vLLM and SGLang write them."""

from __future__ import annotations

import itertools
import time
from http.client import IncompleteRead

import pytest

from forebay.load.results import metrics_of
from forebay.load.results.scrape import Readings, Scraper, read_metrics

FOREBAY = """\
# HELP ray_forebay_queued_requests Sequences admitted, no first token yet.
# TYPE ray_forebay_queued_requests gauge
ray_forebay_queued_requests{replica="a"} 3.0
ray_forebay_queued_requests{replica="b"} 4.0
ray_forebay_kv_usage_ratio{replica="a"} 0.2
ray_forebay_kv_usage_ratio{replica="b"} 0.6
# TYPE ray_forebay_output_tokens_total counter
ray_forebay_output_tokens_total{replica="a"} %d
ray_vllm_num_requests_waiting{replica="a"} 99.0
ray_node_cpu_count 2.0
"""
VLLM = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 5.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 100.0
"""


def test_replicas_are_summed_and_shares_averaged() -> None:
    sample = Readings().sample(0.0, [FOREBAY % 10])
    assert sample is not None
    assert sample.queued_requests == 7  # Forebay's own, not vLLM's
    assert sample.kv_usage == pytest.approx(0.4)
    assert sample.running is None


def test_counters_become_rates() -> None:
    readings = Readings()
    read = ((0.0, 10), (2.0, 30), (3.0, 5), (4.0, 6))
    samples = [readings.sample(t, [FOREBAY % total]) for t, total in read]
    rates = [sample.output_tokens_per_s for sample in samples if sample is not None]
    assert rates == [None, 10.0, None, 1.0]  # a counter that fell has lost a replica


def test_a_page_without_news_is_no_sample() -> None:
    readings = Readings()
    read = ((0.0, 10), (1.0, 10), (2.0, 10), (3.0, 40))
    samples = [readings.sample(t, [FOREBAY % total]) for t, total in read]
    assert [sample is not None for sample in samples] == [True, False, False, True]
    assert samples[3] is not None
    assert samples[3].output_tokens_per_s == 10.0  # over the three seconds in which it was made


def test_several_nodes_are_one_fleet() -> None:
    sample = Readings().sample(0.0, [FOREBAY % 1, FOREBAY % 1])
    assert sample is not None
    assert sample.queued_requests == 14


def test_vllms_own_page_is_known() -> None:
    sample = Readings().sample(0.0, [VLLM])
    assert sample is not None
    assert sample.running == 5


def test_what_is_not_known_is_left_out() -> None:
    assert read_metrics("python_info 1.0\n<html>") == {}


def test_metrics_are_not_seen_where_there_are_none() -> None:
    assert metrics_of("http://127.0.0.1:1", []) is None


@pytest.mark.parametrize("fault", [OSError("no answer"), IncompleteRead(b"half a page")])
def test_a_scraper_reads_until_it_is_stopped_and_survives_failures(fault: Exception) -> None:
    numbers = itertools.count()

    def read(url: str) -> str:
        number = next(numbers)
        if number == 1:
            raise fault
        return FOREBAY % number

    scraper = Scraper(["http://h/metrics"], read, period_s=0.001)
    scraper.start(time.time())
    while len(scraper.samples) < 3:
        time.sleep(0.001)
    samples = scraper.stop()
    assert scraper.failures == 1
    assert [s.t for s in samples] == sorted(s.t for s in samples)


def test_a_scraper_that_never_started_has_nothing() -> None:
    assert Scraper([]).stop() == []
