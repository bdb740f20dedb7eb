"""A run is believed only when its client was not what it measured."""

from __future__ import annotations

import math
from typing import Any

import pytest

from forebay.measure import ClientFacts, Validity, with_emulation
from forebay.measure.validity import judge


def facts(**changes: Any) -> ClientFacts:
    """A client that kept up: 1 ms late at p99, a third of a core, everything asked."""
    values: dict[str, Any] = {
        "realtime": True,
        "lag_p99_s": 0.001,
        "stall_max_s": 0.01,
        "cpu_share": 0.3,
        "planned": 1000,
        "begun": 1000,
    }
    return ClientFacts(**(values | changes))


def test_a_client_that_kept_up_is_believed_with_its_lag() -> None:
    verdict = judge(facts())
    assert verdict.valid
    assert str(verdict) == "valid: client lag p99 1.0 ms, at most 20.0 ms"


DOUBTS: list[tuple[dict[str, Any], str]] = [
    ({"lag_p99_s": 0.021}, "the client was late: lag p99 21.0 ms, above 20.0 ms"),
    ({"lag_p99_s": math.nan}, "the client was late"),
    ({"lag_p99_s": math.inf}, "the client was late"),
    ({"stall_max_s": 0.3}, "the client stood still for 300.0 ms"),
    ({"cpu_share": 0.95}, "the client was busy: 95% of a core in one worker; use more workers"),
    ({"no_socket": 3}, "gave no connection for 3 requests: raise its limit of open files"),
    ({"begun": 980}, "only 980 of 1000 planned sessions were begun"),
    ({"lag_p99_s": None}, "nothing was sent"),
]


@pytest.mark.parametrize(("changes", "words"), DOUBTS)
def test_a_client_that_did_not_is_not_believed(changes: dict[str, Any], words: str) -> None:
    verdict = judge(facts(**changes))
    assert not verdict.valid
    assert len(verdict.reasons) == 1
    assert str(verdict).startswith("INVALID: ")
    assert words in str(verdict)


@pytest.mark.parametrize(
    "changes",
    [
        {"lag_p99_s": 0.020},
        {"stall_max_s": 0.250},
        {"cpu_share": 0.90},
        {"begun": 990},
        {"planned": None, "begun": 5},  # a closed loop plans nothing
        {"begun": 500, "interrupted": True},
        {"planned": 0, "begun": 0},
    ],
)
def test_what_lies_on_the_edge_is_believed(changes: dict[str, Any]) -> None:
    assert judge(facts(**changes)).valid


def test_every_doubt_is_told() -> None:
    verdict = judge(facts(lag_p99_s=1.0, stall_max_s=1.0, cpu_share=1.0, no_socket=1, begun=1))
    assert len(verdict.reasons) == 5
    assert str(verdict).count("; ") >= 4


def test_a_late_client_without_real_time_scheduling_is_told_so() -> None:
    late = {"lag_p99_s": 1.0, "realtime": False}
    refused = judge(facts(**late, realtime_reason="Operation not permitted"))
    assert "(not scheduled in real time: Operation not permitted)" in str(refused)
    assert "(not scheduled in real time: not asked for)" in str(judge(facts(**late)))
    assert "real time" not in str(judge(facts(lag_p99_s=1.0)))


def test_a_verdict_reads_as_a_sentence() -> None:
    assert str(Validity(False, ("a", "b"))) == "INVALID: a; b"


def test_an_emulated_engine_that_was_late_voids_the_run() -> None:
    fine = Validity(True, ("as it should be",))
    assert with_emulation(fine, None) is fine
    assert with_emulation(fine, 0.04) is fine
    void = with_emulation(fine, 0.2)
    assert not void.valid
    assert "20% of a step" in str(void)
    both = with_emulation(Validity(False, ("the client was late",)), 0.2)
    assert len(both.reasons) == 2


def test_a_machine_that_its_host_held_up_is_said_to_be_that() -> None:
    fine = Validity(True, ("as it should be",))
    assert "its host gave 10% of its CPU time" in str(with_emulation(fine, 0.2, 0.5, stolen=0.1))
    assert "host" not in str(with_emulation(fine, 0.2, 0.5, stolen=0.0))
    assert "host" not in str(with_emulation(fine, 0.2, stolen=0.1)), "the engine is elsewhere"
    assert with_emulation(fine, 0.01, stolen=0.1) is fine  # what is in time was not held up
    assert "its host gave 10% of its CPU time" in str(
        judge(facts(lag_p99_s=1.0, machine_stolen=0.1))
    )


def test_a_machine_without_room_voids_an_emulation_and_nothing_else() -> None:
    fine = Validity(True, ("as it should be",))
    assert with_emulation(fine, None, idle=0.02) is fine
    assert with_emulation(fine, 0.01, idle=0.2) is fine
    void = with_emulation(fine, 0.01, idle=0.02)
    assert not void.valid
    assert "2% of this machine was idle" in str(void)
    assert len(with_emulation(fine, 0.5, idle=0.02).reasons) == 2
