"""Which rows belong together: union-find, and near-duplicate texts by character 5-gram Jaccard.

The near-duplicate join is exact: no pair at or above the threshold is missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRAM = 5
NEAR = 0.7

_BITS = 32
_BLOCK = 200_000
_EPSILON = 1e-9  # 0.7 × 30 is a little less than 21
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


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


def near_pairs(texts: Sequence[str], threshold: float = NEAR) -> Iterator[tuple[int, int]]:
    """Pairs of indices, smaller first, whose Jaccard similarity reaches `threshold`.

    Two sets that similar share one of their few rarest grams (prefix filtering, Bayardo et al.
    2007), so only texts with a rare gram in common are compared. Grams are told apart by 64-bit
    hashes. Time grows with the number of pairs that share a rare gram.
    """
    if len(texts) < 2:
        return
    grams = _gram_sets(texts)
    for left, right in _candidates(grams, threshold):
        shared = _shared(grams, left, right)
        near = shared >= threshold * (grams.sizes[left] + grams.sizes[right] - shared) - _EPSILON
        yield from zip(left[near].tolist(), right[near].tolist(), strict=True)


@dataclass(frozen=True)
class _Grams:
    """The gram sets of all texts, one after the other, each from its rarest gram on."""

    tokens: NDArray[np.int64]
    """[all grams] the gram's rank by rarity over all texts."""
    starts: NDArray[np.int64]
    """[texts] where each set begins in `tokens`."""
    sizes: NDArray[np.int64]
    """[texts] distinct grams; at least 1."""


def _gram_sets(texts: Sequence[str]) -> _Grams:
    hashes, owners = _hashed_grams(texts)
    order = np.argsort(hashes)
    changes = np.flatnonzero(np.diff(hashes[order])) + 1
    counts = np.diff(changes, prepend=0, append=len(hashes))
    ranks = np.empty(len(counts), np.int64)
    ranks[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    # One number per gram, sorted by text and then by rarity; a repeated gram counts once.
    keys = _distinct(owners[order] << _BITS | np.repeat(ranks, counts))
    sizes = np.bincount(keys >> _BITS, minlength=len(texts))
    return _Grams(keys & (1 << _BITS) - 1, np.cumsum(sizes) - sizes, sizes)


def _hashed_grams(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """[all grams] hash and text index of each gram; a text under 5 characters is one gram."""
    padded = "".join(text.ljust(GRAM, "\0") for text in texts)
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.array([max(len(text), GRAM) for text in texts])
    owners = np.repeat(np.arange(len(texts)), lengths)
    hashes = np.zeros(len(codes) - GRAM + 1, np.uint64)
    for offset in range(GRAM):
        hashes = hashes * _MULTIPLIER + codes[offset : len(hashes) + offset]
    inside = owners[: len(hashes)] == owners[GRAM - 1 :]
    return hashes[inside], owners[: len(hashes)][inside]


def _candidates(
    grams: _Grams, threshold: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of pairs that share a rare gram and are near enough in size; no pair comes twice."""
    wanted = np.ceil(threshold * grams.sizes - _EPSILON).astype(np.int64)
    owners, positions = _flat(grams.starts, grams.sizes - wanted + 1)
    order = np.lexsort((owners, grams.tokens[positions]))
    tokens, owners = grams.tokens[positions][order], owners[order]
    found = []
    at, distance = np.arange(len(tokens)), 1
    while len(at := at[at + distance < len(tokens)]):
        at = at[tokens[at] == tokens[at + distance]]
        left, right = owners[at], owners[at + distance]
        larger = np.where(grams.sizes[left] > grams.sizes[right], left, right)
        alike = np.minimum(grams.sizes[left], grams.sizes[right]) >= wanted[larger]
        found.append(left[alike] << _BITS | right[alike])
        distance += 1
    pairs = _distinct(np.concatenate(found))
    for block in np.array_split(pairs, len(pairs) // _BLOCK + 1):
        yield block >> _BITS, block & (1 << _BITS) - 1


def _shared(grams: _Grams, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """[pairs] the number of grams that both texts have."""
    keys = []
    for side in (left, right):
        pairs, positions = _flat(grams.starts[side], grams.sizes[side])
        keys.append(pairs << _BITS | grams.tokens[positions])
    both = np.sort(np.concatenate(keys))
    twice = both[:-1][both[:-1] == both[1:]]
    return np.bincount(twice >> _BITS, minlength=len(left))


def _flat(
    starts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For ranges `starts[i]` … of `lengths[i]`: which range each item is of, and its position."""
    owners = np.repeat(np.arange(len(starts)), lengths)
    before = np.cumsum(lengths) - lengths
    return owners, np.arange(len(owners)) - before[owners] + starts[owners]


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """`values` sorted, each once. (np.unique hashes, which takes five times as long here.)"""
    ordered = np.sort(values)
    distinct: NDArray[np.int64] = ordered[np.diff(ordered, prepend=-1) != 0]
    return distinct
