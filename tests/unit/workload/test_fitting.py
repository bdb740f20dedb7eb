"""A workload drawn, recorded and fitted: the fit has its figures, or says that it has not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.workload import (
    Constant,
    Figure,
    FitQuality,
    Fixed,
    Gamma,
    Hold,
    Independent,
    Joint,
    Kind,
    Lognormal,
    OpenLoop,
    Poisson,
    PrefixPool,
    RateCurve,
    Row,
    facts,
    fit_workload,
    judge_fit,
)
from forebay.workload.fit_quality import session_rows
from forebay.workload.workload_fitting import FEWEST, MOST_TENANTS, NOBODY, OTHERS

CHAT = Kind(
    name="chat",
    share=0.75,
    lengths=Independent(Lognormal(400, 2000, most=8000), Lognormal(120, 600, most=2000)),
    prefixes=PrefixPool("chat", 8, Fixed(1024), zipf=1.0),
    class_name="interactive",
    tenants=(("t-a", 3.0), ("t-b", 1.0)),
)
BATCH = Kind(
    name="batch",
    share=0.25,
    lengths=Joint(tuple((100 + 10 * k, 10 + k) for k in range(200))),
    class_name="batch",
)
CURVE = RateCurve((Hold(4, 600), Hold(12, 300), Hold(6, 600)))


def recorded() -> list[Row]:
    loop = OpenLoop(curve=CURVE, law=Gamma(2.0), kinds=[CHAT, BATCH], seed=11)
    return from_zero(session_rows(loop.schedule()))


def from_zero(rows: list[Row]) -> list[Row]:
    return [replace(row, at_s=row.at_s - rows[0].at_s) for row in rows]


def figure(quality: FitQuality, name: str) -> Figure:
    return next(figure for figure in quality.figures if figure.name == name)


def test_a_workload_is_found_again_in_what_it_drew() -> None:
    rows = recorded()
    fitted = fit_workload(rows)
    levels = [piece.level for piece in fitted.curve.pieces if isinstance(piece, Hold)]
    assert levels == pytest.approx([4, 12, 6], rel=0.15)
    assert fitted.law.cv == pytest.approx(2.0, rel=0.1)
    chat, batch = fitted.kinds
    assert (chat.class_name, batch.class_name) == ("interactive", "batch")
    assert chat.share == pytest.approx(0.75, abs=0.02)
    assert isinstance(chat.lengths, Independent)
    assert isinstance(chat.lengths.prompt, Lognormal)
    assert chat.lengths.prompt.p50 == pytest.approx(400, rel=0.06)
    assert chat.prefixes is not None
    assert chat.prefixes.count == 8
    assert chat.prefixes.lengths == Fixed(1024)
    assert chat.prefixes.zipf == pytest.approx(1.0, abs=0.1)
    weights = dict(chat.tenants)
    assert weights["t-a"] / weights["t-b"] == pytest.approx(3.0, rel=0.15)
    assert isinstance(batch.lengths, Joint)
    assert batch.prefixes is None
    assert batch.tenants == ()


def test_a_fit_of_what_laws_drew_fits() -> None:
    rows = recorded()
    quality = judge_fit(rows, fit_workload(rows))
    assert quality.verdict == "fits", quality.figures
    assert not any(figure.advice for figure in quality.figures)
    reuse = figure(quality, "reusable prompt tokens")
    assert reuse.recorded == facts(rows).reusable > 0.5


def test_the_seed_decides_what_is_fitted_and_drawn() -> None:
    rows = recorded()[:3000]
    one, again, other = (fit_workload(rows, seed) for seed in (1, 1, 2))
    assert one.schedule() == again.schedule()
    assert one.schedule() != other.schedule()


def test_the_rest_of_a_class_without_a_shared_beginning_is_a_kind_of_its_own() -> None:
    shared = [
        Row(at_s=k * 1.0, prompt_tokens=600, output_tokens=10, blocks=("sys",)) for k in range(60)
    ]
    own = [
        Row(at_s=k * 1.0 + 0.5, prompt_tokens=80, output_tokens=10, blocks=(f"own{k}",))
        for k in range(40)
    ]
    rows = sorted(shared + own, key=lambda row: row.at_s)
    first, second = fit_workload(rows).kinds
    assert first.prefixes == PrefixPool("requests", 1, Fixed(512), zipf=0.0)
    assert first.lengths == Independent(Fixed(88), Fixed(10))
    assert (second.name, second.prefixes) == ("requests, nothing shared", None)
    assert (first.share, second.share) == (0.6, 0.4)


def test_conversations_are_not_fitted_and_it_says_so() -> None:
    rows = [
        Row(
            at_s=turn * 20.0 + session * 0.7,
            prompt_tokens=(turn + 1) * 512,
            output_tokens=100,
            blocks=("sys", *(f"{session}.{k}" for k in range(turn))),
        )
        for session in range(200)
        for turn in range(6)
    ]
    rows.sort(key=lambda row: row.at_s)
    quality = judge_fit(rows, fit_workload(rows))
    reuse = figure(quality, "reusable prompt tokens")
    assert reuse.verdict == "does not fit"
    assert "replay the trace" in reuse.advice
    assert quality.verdict == "does not fit"


def test_long_bursts_are_not_fitted_and_it_says_so() -> None:
    """Poisson at two rates in turns too short to become stages: the gaps' law is near enough, but
    not how they follow one another."""
    rng = np.random.default_rng(5)
    gaps = np.concatenate(
        [rng.exponential(3.0 if k % 2 else 0.25, 10 if k % 2 else 120) for k in range(160)]
    )
    rows = [
        Row(at_s=at, prompt_tokens=9, output_tokens=9)
        for at in (np.cumsum(gaps) - gaps[0]).tolist()
    ]
    quality = judge_fit(rows, fit_workload(rows))
    bursts = figure(quality, "bursts over 50 requests")
    assert bursts.verdict != "fits"
    assert (bursts.recorded or 0.0) > 1.5 * (bursts.fitted or 0.0)


def test_a_clock_with_a_little_jitter_fits() -> None:
    rng = np.random.default_rng(2)
    times = np.arange(600.0) + rng.normal(0, 0.01, 600)
    rows = [Row(at_s=t, prompt_tokens=9, output_tokens=9) for t in (times - times[0]).tolist()]
    fitted = fit_workload(rows)
    assert fitted.law == Constant()
    assert figure(judge_fit(rows, fitted), "gaps, rate removed").verdict == "fits"


def test_many_tenants_are_summed_up_and_nobody_has_a_name() -> None:
    rows = [
        Row(at_s=k * 0.5, prompt_tokens=9, output_tokens=9, tenant=f"t-{k}" if k else "")
        for k in range(MOST_TENANTS + 51)
    ]
    (kind,) = fit_workload(rows).kinds
    names = [name for name, _ in kind.tenants]
    assert len(names) == MOST_TENANTS + 1
    assert NOBODY in names
    assert names[-1] == OTHERS
    assert sum(weight for _, weight in kind.tenants) == len(rows)


@pytest.mark.parametrize("count", [1, FEWEST - 1])
def test_a_handful_is_refused(count: int) -> None:
    rows = [Row(at_s=k * 1.0, prompt_tokens=9, output_tokens=9) for k in range(count)]
    with pytest.raises(ValueError, match="too few"):
        fit_workload(rows)


def test_one_moment_has_no_rate() -> None:
    rows = [Row(at_s=0.0, prompt_tokens=9, output_tokens=9)] * FEWEST
    with pytest.raises(ValueError, match="one moment"):
        fit_workload(rows)


names = st.sampled_from(["", "a", "b"])
rows_of_any_kind = st.lists(
    st.builds(
        Row,
        at_s=st.floats(0, 1000),
        prompt_tokens=st.integers(1, 5000),
        output_tokens=st.integers(1, 500),
        blocks=st.lists(st.sampled_from("vwxyz"), max_size=4).map(tuple),
        block_tokens=st.just(64),
        class_name=names,
        tenant=names,
    ),
    min_size=FEWEST,
    max_size=80,
)


@settings(max_examples=40)
@given(rows_of_any_kind)
def test_whatever_was_recorded_is_fitted_and_judged_without_an_error(rows: list[Row]) -> None:
    rows = from_zero(sorted(rows, key=lambda row: row.at_s))
    if rows[-1].at_s < 1.0:
        return
    fitted = fit_workload(rows)
    assert sum(kind.share for kind in fitted.kinds) == pytest.approx(1.0)
    assert fitted.curve.requests == pytest.approx(len(rows), rel=0.1)
    assert {kind.class_name for kind in fitted.kinds} == {row.class_name for row in rows}
    if fitted.schedule():
        assert judge_fit(rows, fitted).verdict in ("fits", "roughly", "does not fit")
    assert isinstance(fitted.law, Poisson | Gamma | Constant)
