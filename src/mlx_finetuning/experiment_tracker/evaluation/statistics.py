"""Confidence intervals: by bootstrap over rows, deterministic for a seed; of shares without one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.experiment_tracker.evaluation.results import Interval

CONFIDENCE = 0.95
RESAMPLES = 2000
DRAWN_AT_ONCE = 1 << 18
"""Rows of several resamples, which take 2 MB each time they are indexed."""
_Z = 1.959964
"""Standard deviations of the normal distribution that hold `CONFIDENCE`."""


def ratio(
    numerators: Sequence[float], denominators: Sequence[float] | None = None, seed: int = 0
) -> Interval | None:
    """sum(numerators) / sum(denominators) over rows, and its percentile bootstrap interval.

    Nats over targets give a loss, flags over nothing a share; the differences of two models' nats
    on the same rows give a paired interval. None without rows.
    """
    above = np.asarray(numerators, np.float64)
    below = np.ones_like(above) if denominators is None else np.asarray(denominators, np.float64)
    if not len(above) or not below.sum():
        return None
    random = np.random.default_rng(seed)
    estimates = np.empty(RESAMPLES)
    step = max(1, DRAWN_AT_ONCE // len(above))
    for first in range(0, RESAMPLES, step):
        size = (min(step, RESAMPLES - first), len(above))
        rows = random.integers(0, len(above), size)  # [resamples, rows]
        below_sums = np.maximum(below[rows].sum(axis=1), 1e-12)
        estimates[first : first + step] = above[rows].sum(axis=1) / below_sums
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(estimates, [tail, 100 - tail])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))


def difference(above: Sequence[float], below: Sequence[float], seed: int = 0) -> Interval | None:
    """The mean of `above` minus that of `below`, which are of other rows, and its percentile bootstrap
    interval: both are resampled by themselves. None unless there are rows of both."""
    if not (len(above) and len(below)):
        return None
    random = np.random.default_rng(seed)

    def means(values: Sequence[float]) -> NDArray[np.float64]:
        rows = random.integers(0, len(values), (RESAMPLES, len(values)))
        resampled: NDArray[np.float64] = np.asarray(values, np.float64)[rows].mean(1)
        return resampled

    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means(above) - means(below), [tail, 100 - tail])
    value = sum(above) / len(above) - sum(below) / len(below)
    return Interval(value, float(low), float(high))


def share(count: int, of: int) -> Interval | None:
    """count / of with its score interval (Wilson 1927), which holds at few rows and at shares of 0
    and 1, where resampling gives no width; None of none."""
    if not of:
        return None
    value, z = count / of, _Z**2 / of
    middle = (value + z / 2) / (1 + z)
    half = math.sqrt(value * (1 - value) * z + z * z / 4) / (1 + z)
    return Interval(value, max(0.0, middle - half), min(1.0, middle + half))
