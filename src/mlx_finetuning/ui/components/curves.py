"""Curves that stay small however long a run is: smoothed over all points, then thinned.

Pure functions over plain lists; drawing is in `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average without the pull towards the first value; `weight` 0 to <1 is
    what stays of the past. A value that is not finite leaves the average as it was."""
    average, scale, averages = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average = weight * average + (1.0 - weight) * value
            scale = weight * scale + (1.0 - weight)
        averages.append(average / scale if scale else math.nan)
    return averages


def thinned_indices(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices of `count` points, evenly spread, first and last among them."""
    if count <= limit:
        return list(range(count))
    step = (count - 1) / (limit - 1)
    return [round(number * step) for number in range(limit)]
