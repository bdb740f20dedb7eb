"""The tap around vLLM's output processor, without an engine behind it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest


class FaultyTap:
    """Fails at every step, in the way that it is told to."""

    def __init__(self) -> None:
        self.fault: Exception = KeyError("lost")
        self.asked = 0

    def on_step(self, outputs: Any, engine_at: float | None) -> None:
        self.asked += 1
        raise self.fault

    def on_stopped(self, request_ids: Any) -> None:
        self.asked += 1
        raise self.fault


def test_a_fault_of_the_tap_ends_no_streams_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from forebay.serving.engine.vllm_engine import TappedLLM

    engine, tap = TappedLLM.__new__(TappedLLM), FaultyTap()
    processed = SimpleNamespace(reqs_to_abort=["r1"])
    engine.output_processor = SimpleNamespace(process_outputs=lambda *_: processed)
    engine.attach(tap)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "ray.serve"):
        for _ in range(3):
            assert engine.output_processor.process_outputs(["x"], 1.0, None) is processed
        tap.fault = ValueError("another")
        engine.output_processor.process_outputs(["x"], 1.0, None)
    assert tap.asked == 8
    assert len(caplog.records) == 2
    assert "lost" in caplog.text
    assert "Traceback" in caplog.text
