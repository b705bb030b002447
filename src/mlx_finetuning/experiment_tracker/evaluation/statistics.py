"""Confidence intervals by bootstrap over rows. Deterministic for a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlx_finetuning.experiment_tracker.evaluation.results import Interval

CONFIDENCE = 0.95
RESAMPLES = 2000


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
    for at in range(RESAMPLES):
        rows = random.integers(0, len(above), len(above))
        estimates[at] = above[rows].sum() / max(below[rows].sum(), 1e-12)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(estimates, [tail, 100 - tail])
    return Interval(float(above.sum() / below.sum()), float(low), float(high))
