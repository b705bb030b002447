"""Which rows belong together: union-find, and near-duplicate texts by character 5-gram Jaccard.

The near-duplicate join is exact: no pair at or above the threshold is missed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

GRAM = 5
NEAR = 0.7


class UnionFind:
    """Sets over 0 … size-1; the smallest member names its set."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def union(self, left: int, right: int) -> None:
        low, high = sorted((self.find(left), self.find(right)))
        self._parent[high] = low

    def sets(self) -> list[list[int]]:
        """All sets, by their smallest member; members in order."""
        members: defaultdict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            members[self.find(item)].append(item)
        return list(members.values())


def grams(text: str) -> frozenset[str]:
    """The character 5-grams of `text`; a shorter text is its own single gram."""
    return frozenset(text[at : at + GRAM] for at in range(max(len(text) - GRAM + 1, 1)))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def near_pairs(texts: Sequence[str], threshold: float = NEAR) -> Iterator[tuple[int, int]]:
    """Pairs of indices whose Jaccard similarity reaches `threshold`.

    Two sets that similar share one of their rarest few grams (prefix filtering, after Bayardo et
    al. 2007), so only rows with a rare gram in common are compared.
    """
    sets = [grams(text) for text in texts]
    frequency = Counter(gram for one in sets for gram in one)
    by_size = sorted(range(len(sets)), key=lambda index: len(sets[index]))
    posted: defaultdict[str, list[int]] = defaultdict(list)
    for index in by_size:
        rare = sorted(sets[index], key=lambda gram: (frequency[gram], gram))
        prefix = rare[: len(rare) - math.ceil(threshold * len(rare)) + 1]
        smallest = threshold * len(rare)
        near = {other for gram in prefix for other in posted[gram]}
        for other in sorted(near):
            if len(sets[other]) >= smallest and jaccard(sets[index], sets[other]) >= threshold:
                yield (other, index) if other < index else (index, other)
        for gram in prefix:
            posted[gram].append(index)
