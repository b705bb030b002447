"""Which items belong together, as one label per item: the smallest index of its group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def join(labels: Labels, left: Labels, right: Labels) -> None:
    """Merge the groups of each pair, in place."""
    while len(left):
        low = np.minimum(labels[left], labels[right])
        high = np.maximum(labels[left], labels[right])
        apart = low != high
        left, right, low, high = left[apart], right[apart], low[apart], high[apart]
        np.minimum.at(labels, high, low)
        while len(left):
            further = labels[labels]
            if np.array_equal(further, labels):
                break
            labels[:] = further


def join_equal(labels: Labels, keys: Sequence[Hashable]) -> None:
    """Merge items with the same key; an empty key joins nothing."""
    first: dict[Hashable, int] = {}
    left = [first.setdefault(key, at) if key else at for at, key in enumerate(keys)]
    join(labels, np.array(left, np.int64), np.arange(len(keys)))


def members(labels: Labels) -> list[list[int]]:
    """The groups, by their smallest member; members in order."""
    if not len(labels):
        return []
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    flat, bounds = order.tolist(), [0, *cuts.tolist(), len(labels)]
    return [flat[start:end] for start, end in pairwise(bounds)]
