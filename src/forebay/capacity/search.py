"""Which rate to try next, on the way to the highest that is sustained.

Trials are noisy: a rate a little above what is sustained passes now and then, one a little below
fails. So both ends that the search closes in on are tried by precise trials before there is an
answer: the lowest failure, since a short trial fails easily, and the highest rate below it, which
must pass each time. A rate that passed and failed counts as failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_CLIMB = 1.5  # while nothing has failed
_FALL = 2.0  # while nothing has passed
_SURELY = 4  # failures, each at a lower rate, that are no chance however short the trials


@dataclass(frozen=True, slots=True)
class Trial:
    """A rate that was tried.

    Attributes:
        rate: sessions/s.
        sustained: whether it was.
        reason: why, or why not.
        precise: long enough to be relied on.
    """

    rate: float
    sustained: bool
    reason: str = ""
    precise: bool = True


@dataclass(frozen=True, slots=True)
class Next:
    """A rate to try, and whether the trial must be long enough to be relied on."""

    rate: float
    precise: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer.

    Attributes:
        rate: the highest that was sustained whenever it was tried; 0 for none.
        low, high: the answer lies between; `high` is None where nothing failed.
        reason: why the search ended.
    """

    rate: float
    low: float
    high: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSearch:
    """Climbs until a rate fails, halves the distance until it is small, then tries both ends again.

    Attributes:
        start: first rate, sessions/s.
        least, most: no rate beyond these is tried.
        tolerance: factor (above 1) within which the answer lies. The two ends are brought within
            its square root, so that a failure by chance, a little below what is sustained, still
            leaves the answer inside.
        confirmations: precise trials that the answer must have passed.
        most_trials: it gives up after.
    """

    start: float
    least: float = 0.01
    most: float = 1e6
    tolerance: float = 1.05
    confirmations: int = 2
    most_trials: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.start <= self.most:
            raise ValueError(f"a search starts between its limits, not at {self.start}")
        if not self.tolerance > 1:
            raise ValueError(f"a tolerance is a factor above 1, not {self.tolerance}")

    def next(self, trials: Sequence[Trial]) -> Next | None:
        """What to try after these trials; None when the search is over."""
        return self._open(trials) if len(trials) < self.most_trials else None

    def found(self, trials: Sequence[Trial]) -> Found:
        """The answer that the trials give."""
        low, high = bracket(trials)
        if high is not None:
            why = _refused(trials, high)
        else:
            why = f"{low:.3g}/s is sustained, more was not tried" if low else "nothing was tried"
        if trials and self._open(trials) is not None:
            why = f"gave up after {len(trials)} trials; {why}"
        return Found(low or 0.0, low or 0.0, high, why)

    def _open(self, trials: Sequence[Trial]) -> Next | None:
        """What is still to be tried, however many trials there were; None with a sure answer."""
        if not trials:
            return Next(self.start, precise=False)
        low, high = bracket(trials)
        return self._narrowing(low, high) or self._verifying(trials, low, high)

    def _narrowing(self, low: float | None, high: float | None) -> Next | None:
        """A rate that brings the two ends closer; None when they are close."""
        if high is None:
            return Next(min(low * _CLIMB, self.most), False) if low and low < self.most else None
        if low is None:
            return Next(max(high / _FALL, self.least), False) if high > self.least else None
        return Next((low * high) ** 0.5, True) if high / low > self.tolerance**0.5 else None

    def _verifying(
        self, trials: Sequence[Trial], low: float | None, high: float | None
    ) -> Next | None:
        """The end that is not certain yet; None when both are."""
        if low is None and len(trials) >= _SURELY and high is not None and high <= self.least:
            return None  # every rate down to the least has failed
        if high is not None and _precise(trials, high) == 0:
            return Next(high, True)
        if low is not None and _precise(trials, low) < self.confirmations:
            return Next(low, True)
        return None


def bracket(trials: Sequence[Trial]) -> tuple[float | None, float | None]:
    """The highest rate below every failure, and the lowest failure; None where there is none.

    A precise pass overrules imprecise failures at or below its rate: a short trial fails easily.
    """
    solid = max((t.rate for t in trials if t.sustained and t.precise), default=0.0)
    failures = [t.rate for t in trials if not t.sustained and (t.precise or t.rate > solid)]
    high = min(failures, default=None)
    low = max(
        (t.rate for t in trials if t.sustained and (high is None or t.rate < high)), default=None
    )
    return low, high


def _precise(trials: Sequence[Trial], rate: float) -> int:
    return sum(trial.rate == rate and trial.precise for trial in trials)


def _refused(trials: Sequence[Trial], rate: float) -> str:
    why = (trial.reason for trial in reversed(trials) if trial.rate == rate and not trial.sustained)
    return f"{rate:.3g}/s is not sustained: {next(why, '')}"
