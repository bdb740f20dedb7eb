"""Step-time coefficients from measured steps: least squares in which none may be negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forebay.engine_model.step_time import StepTime

_QUANTILES = (0.05, 0.5, 0.95)
_Floats = NDArray[np.float64]


class StepSample(NamedTuple):
    """One measured step: its duration in seconds and what it computed, as `Step` counts it."""

    duration_s: float
    prefill_tokens: int
    decode_sequences: int
    context_tokens: int
    prefill_pairs: int = 0


@dataclass(frozen=True, slots=True)
class StepTimeFit:
    """A law and how well it tells the steps that it was fitted to.

    Attributes:
        step_time: the law. A coefficient is 0 where the samples show no such cost, or none of it.
        residual_s: quantiles 0.05, 0.5 and 0.95 of measured less predicted duration, seconds.
        relative: the same of (measured - predicted) / measured.
        samples: steps fitted to.
    """

    step_time: StepTime
    residual_s: tuple[float, float, float]
    relative: tuple[float, float, float]
    samples: int


def fit_step_time(samples: Sequence[StepSample]) -> StepTimeFit:
    """The law that fits measured steps best, in relative terms.

    Durations differ by orders of magnitude between a lone decode and a full prefill. Each step is
    weighted by 1 / duration, or the long ones alone would decide.

    Raises:
        ValueError: fewer samples than coefficients, a duration that is not positive, or steps so
            much alike that they have no common base above 0.
    """
    rows = np.asarray(samples, dtype=np.float64).reshape(len(samples), -1)
    if len(rows) < len(StepSample._fields):
        raise ValueError(f"{len(rows)} steps do not tell {len(StepSample._fields)} coefficients")
    durations, amounts = rows[:, 0], rows[:, 1:]
    if durations.min() <= 0:
        raise ValueError("a step that took no time")
    matrix = np.column_stack([np.ones(len(rows)), amounts])
    found = non_negative_least_squares(matrix / durations[:, None], np.ones(len(rows)))
    if found[0] <= 0:
        raise ValueError("the steps have no base duration; measure some that compute little")
    residual = durations - matrix @ found
    base, prefill, decode, context, pairs = (float(value) for value in found)
    return StepTimeFit(
        step_time=StepTime(base, prefill, decode, context, pairs),
        residual_s=_quantiles(residual),
        relative=_quantiles(residual / durations),
        samples=len(rows),
    )


def non_negative_least_squares(matrix: _Floats, target: _Floats) -> _Floats:
    """Solve `matrix @ x = target` for x >= 0, after Lawson and Hanson (1974), "NNLS".

    Columns are taken in one at a time, by how much each would help; one that a solution makes
    negative is dropped again, and may come back.

    Args:
        matrix: shape (samples, coefficients).
        target: shape (samples,).
    """
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    scaled = matrix / scale
    solution = np.zeros(matrix.shape[1])
    used = np.zeros(matrix.shape[1], dtype=bool)
    tolerance = 1e-10 * float(np.linalg.norm(target))
    for _ in range(3 * matrix.shape[1]):  # more rounds than it is known to take
        gain = scaled.T @ (target - scaled @ solution)
        if not np.any(gain[~used] > tolerance):
            break
        used[np.argmax(np.where(used, -np.inf, gain))] = True
        solution = _without_negatives(scaled, target, solution, used)
    result: _Floats = solution / scale
    return result


def _without_negatives(
    matrix: _Floats, target: _Floats, solution: _Floats, used: NDArray[np.bool_]
) -> _Floats:
    """Move from `solution` towards the best one over the `used` columns, dropping from `used`."""
    while True:
        best = np.zeros_like(solution)
        best[used] = np.linalg.lstsq(matrix[:, used], target, rcond=None)[0]
        falling = used & (best <= 0)
        if not falling.any():
            return best
        gap = solution[falling] - best[falling]
        share = float(np.min(solution[falling] / np.where(gap > 0, gap, 1.0)))
        solution = np.maximum(solution + share * (best - solution), 0.0)
        used &= solution > 1e-15


def _quantiles(values: _Floats) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, _QUANTILES)
    return float(low), float(middle), float(high)
