"""The public traces, where a checkout has them beside it: the figures that are known of them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from forebay.measure import percentile
from forebay.workload import (
    Row,
    facts,
    faster,
    overlaid,
    read_trace,
    trace_sessions,
    within_context,
)

TRACES = Path(__file__).parents[3].parent / "shared/traces"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="no traces beside the checkout")


@pytest.fixture(scope="module")
def azure() -> list[Row]:
    with (TRACES / "azure_conv.csv").open(newline="") as file:
        return read_trace("azure", file)


@pytest.fixture(scope="module")
def mooncake() -> list[Row]:
    with gzip.open(TRACES / "moon_conv.jsonl.gz", "rt") as file:
        return read_trace("mooncake", file)


def test_azure_has_the_figures_that_are_known_of_it(azure: list[Row]) -> None:
    found = facts(azure)
    assert (found.requests, round(found.seconds)) == (19_366, 3_502)
    assert found.gap_cv == pytest.approx(1.09, abs=0.005)
    prompts = [row.prompt_tokens for row in azure]
    assert round(found.prompt_mean) == 1_155
    assert (percentile(prompts, 50), found.prompt_p99) == (1_020, 4_142)
    outputs = [row.output_tokens for row in azure]
    assert (round(found.output_mean), percentile(outputs, 50), found.output_p99) == (211, 129, 601)
    assert (found.reusable, found.reuse_gap_p50_s) == (0.0, None)


def test_mooncake_has_the_figures_that_are_known_of_it(mooncake: list[Row]) -> None:
    found = facts(mooncake)
    assert (found.requests, round(found.seconds)) == (12_031, 3_537)
    assert found.gap_cv == pytest.approx(3.03, abs=0.005)
    assert round(found.prompt_mean) == 12_035
    assert found.prompt_p99 == pytest.approx(85_400, abs=50)
    assert round(found.output_mean) == 343
    assert repeated(mooncake) == pytest.approx(0.366, abs=0.0005)
    assert found.reusable == pytest.approx(0.366, abs=0.02)  # by tokens, the last blocks cut short


def repeated(rows: list[Row]) -> float:
    """The share of blocks that came up before."""
    blocks = [block for row in rows for block in row.blocks]
    return 1 - len(set(blocks)) / len(blocks)


def test_sessions_of_mooncake_hold_its_tokens_and_share_its_blocks(mooncake: list[Row]) -> None:
    sessions = trace_sessions(mooncake)
    assert [one.turns[0].prompt_tokens for one in sessions] == [
        row.prompt_tokens for row in mooncake
    ]

    def names() -> Iterator[str]:
        for session in sessions:
            yield from (one.name for one in session.turns[0].segments if one.shared)

    assert len(set(names())) == len({block for row in mooncake for block in row.blocks})


def test_azure_laid_over_itself_moves_towards_poisson(azure: list[Row]) -> None:
    dense = facts(overlaid(azure, 4, np.random.default_rng(0)))
    assert dense.rate == pytest.approx(4 * facts(azure).rate, rel=1e-3)
    assert dense.gap_cv == pytest.approx(1.0, abs=0.04)


def test_mooncake_rescaled_keeps_what_it_should(mooncake: list[Row]) -> None:
    before = facts(mooncake)
    fast, dense = facts(faster(mooncake, 4)), facts(overlaid(mooncake, 3, np.random.default_rng(0)))
    assert fast.gap_cv == pytest.approx(before.gap_cv, abs=1e-6)
    assert fast.reusable == before.reusable
    assert dense.reusable == pytest.approx(before.reusable, abs=1e-3)
    assert (
        max(row.prompt_tokens + row.output_tokens for row in within_context(mooncake, 8192)) <= 8192
    )
