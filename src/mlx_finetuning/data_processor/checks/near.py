"""Near-duplicate texts: groups joined by pairs whose character 5-gram Jaccard reaches 0.7.

Exact by prefix filtering (Bayardo et al. 2007): two sets that similar share one of their few
rarest grams, so only texts with a rare gram in common are compared. Where so many share one that
comparing them all would take time with the square of their number, those texts are compared by
MinHash bands instead, which find a pair at the threshold with all but one in 10,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.data_processor.checks.grams import GramSets, Integers
from mlx_finetuning.data_processor.checks.groups import join
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress

NEAR = 0.7

PAIRS_PER_TEXT = 60
"""Candidate pairs, on average, up to which every one of them is looked at."""
BANDS, ROWS = 40, 4
"""MinHash: a pair is compared if all rows of a band agree: 1 - (1 - 0.7⁴)⁴⁰ at the threshold."""

_BLOCK = 1 << 20
_CHUNK = 1 << 15
_EPSILON = 1e-9  # 0.7 × 30 is a little less than 21

Pairs = tuple[Integers, Integers]


@dataclass(frozen=True)
class NearGroups:
    labels: Integers
    """[texts] the smallest index of each text's group."""
    exact: bool
    """Whether every candidate pair was looked at."""


def near_groups(
    grams: GramSets,
    threshold: float = NEAR,
    progress: StageProgress = SILENT,
    per_text: int = PAIRS_PER_TEXT,
) -> NearGroups:
    """Which texts are connected by near-duplicate pairs. Time grows with the number of texts."""
    if not len(grams.sizes):
        return NearGroups(np.zeros(0, np.int64), True)
    least = np.ceil(threshold * grams.sizes - _EPSILON).astype(np.int64)
    comparison = _Comparison(
        grams, threshold, least, _sketches(grams, progress), np.arange(len(grams.sizes)), progress
    )
    common = comparison.by_rare_grams(per_text * len(grams.sizes) + 10_000)
    if len(common.starts):
        comparison.by_bands(common)
    return NearGroups(comparison.labels, not len(common.starts))


@dataclass(frozen=True)
class _Postings:
    """Texts by the grams that they share."""

    owners: Integers
    """[all postings] text indices, one gram's after the other's."""
    starts: Integers
    """[grams] where each gram's begin in `owners`."""
    counts: Integers
    """[grams] how many they are."""

    def of(self, grams: Integers) -> _Postings:
        """Those of some of the grams."""
        _, positions = flat(self.starts[grams], self.counts[grams])
        counts = self.counts[grams]
        return _Postings(self.owners[positions], np.cumsum(counts) - counts, counts)

    def mixed(self, labels: Integers) -> _Postings:
        """Without grams whose texts are in one group already."""
        groups = labels[self.owners]
        lowest = np.minimum.reduceat(groups, self.starts)
        highest = np.maximum.reduceat(groups, self.starts)
        return self.of(np.flatnonzero(lowest != highest))


@dataclass(frozen=True)
class _Comparison:
    """Groups that grow as pairs are compared; a pair already in one group is passed over."""

    grams: GramSets
    threshold: float
    least: Integers
    """[texts] the fewest grams that a near-duplicate shares with the text."""
    sketches: NDArray[np.uint64]
    """[texts, words] see `_sketches`."""
    labels: Integers
    """[texts] changed in place."""
    progress: StageProgress

    def by_rare_grams(self, budget: int) -> _Postings:
        """Compare the texts that share a rare gram, the rarest first, up to `budget` pairs. What is
        too common for that is returned."""
        postings = self._postings()
        order = np.argsort(postings.counts, kind="stable")
        counts = postings.counts[order]
        affordable = np.cumsum(counts * (counts - 1) // 2) <= budget
        rare = postings.of(order[affordable])
        # Pairs by their distance in a gram's list; a pair may come again.
        ends = np.repeat(rare.starts + rare.counts, rare.counts)
        at, distance = np.arange(len(rare.owners)), 1
        while len(at):
            is_inside = at + distance < ends
            at, ends = at[is_inside], ends[is_inside]
            for start in range(0, len(at), _BLOCK):
                self.progress.check_cancelled()
                block = at[start : start + _BLOCK]
                self._compare(rare.owners[block], rare.owners[block + distance])
            distance += 1
        return postings.of(order[~affordable])

    def by_bands(self, postings: _Postings) -> None:
        """Compare texts that agree in a band of MinHashes: neighbours, and each with the first."""
        rng = np.random.default_rng(0)
        for band in range(BANDS):
            self.progress.update(band, BANDS)
            postings = postings.mixed(self.labels)
            if not len(postings.starts):
                return
            texts = np.unique(postings.owners)
            signature = self._signature(texts, rng)
            order = np.argsort(signature, kind="stable")
            same = signature[order][1:] == signature[order][:-1]
            heads = np.where(np.append(True, ~same), np.arange(len(order)), 0)
            first, members = np.maximum.accumulate(heads), texts[order]
            at = np.flatnonzero(same) + 1
            for block in np.array_split(at, len(at) // _BLOCK + 1):
                self._compare(members[block - 1], members[block])
                self._compare(members[first[block]], members[block])

    def _postings(self) -> _Postings:
        """Texts by the rare grams that at least two of them have."""
        grams = self.grams
        lengths = grams.sizes - self.least + 1
        keys = np.empty(int(lengths.sum()), np.uint64)
        filled = 0
        for at in range(0, len(lengths), _CHUNK):
            self.progress.update(at, len(lengths))
            owners, positions = flat(grams.starts[at : at + _CHUNK], lengths[at : at + _CHUNK])
            part = grams.hashes[positions].astype(np.uint64) << np.uint64(32)
            keys[filled : filled + len(part)] = part | (owners + at).astype(np.uint64)
            filled += len(part)
        self.progress.check_cancelled()
        keys.sort()
        hashes = (keys >> np.uint64(32)).astype(np.uint32)
        again = hashes[1:] == hashes[:-1]
        shared = np.append(False, again) | np.append(again, False)
        hashes, owners = hashes[shared], (keys[shared] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        starts = np.flatnonzero(np.diff(hashes.astype(np.int64), prepend=-1))
        return _Postings(owners, starts, np.diff(starts, append=len(owners)))

    def _compare(self, left: Integers, right: Integers) -> None:
        """Join the pairs that are near enough."""
        sizes, labels = self.grams.sizes, self.labels
        apart = labels[left] != labels[right]
        left, right = left[apart], right[apart]
        most = np.maximum(self.least[left], self.least[right])
        alike = np.minimum(sizes[left], sizes[right]) >= most
        left, right = left[alike], right[alike]
        # What differs in the sketches differs in the sets.
        total = sizes[left] + sizes[right]
        differing = np.bitwise_count(self.sketches[left] ^ self.sketches[right]).sum(1)
        close = differing <= total * (1 - self.threshold) / (1 + self.threshold) + _EPSILON
        left, right, total = left[close], right[close], total[close]
        for part in np.array_split(np.arange(len(left)), int(total.sum()) // _BLOCK + 1):
            self.progress.check_cancelled()
            keys = []
            for side in (left[part], right[part]):
                pairs, positions = flat(self.grams.starts[side], self.grams.sizes[side])
                keys.append(pairs << 32 | self.grams.hashes[positions])
            both = np.sort(np.concatenate(keys))
            twice = both[:-1][both[:-1] == both[1:]]
            shared = np.bincount(twice >> 32, minlength=len(part))  # [pairs] grams of both texts
            near = shared >= self.threshold * (total[part] - shared) - _EPSILON
            join(self.labels, left[part][near], right[part][near])

    def _signature(self, texts: Integers, rng: np.random.Generator) -> NDArray[np.uint64]:
        """[texts] the smallest grams under a few random orders, as one number."""
        signature = np.zeros(len(texts), np.uint64)
        minima = np.empty(len(texts), np.uint64)
        for factor, shift in rng.integers(0, 1 << 32, (ROWS, 2), np.uint32):
            for at in range(0, len(texts), _CHUNK):
                chunk = texts[at : at + _CHUNK]
                sizes = self.grams.sizes[chunk]
                _, positions = flat(self.grams.starts[chunk], sizes)
                mixed = (self.grams.hashes[positions] ^ shift) * (factor | np.uint32(1))
                mixed ^= mixed >> np.uint32(15)
                mixed *= np.uint32(0x2C1B3C6D)
                minima[at : at + len(chunk)] = np.minimum.reduceat(mixed, np.cumsum(sizes) - sizes)
            signature *= np.uint64(0x9E3779B97F4A7C15)
            signature += minima
        return signature


def _sketches(grams: GramSets, progress: StageProgress) -> NDArray[np.uint64]:
    """[texts, words] a few bits per text, each flipped once for every gram that falls on it."""
    median = int(np.median(grams.sizes))
    words = 1 << max(1, min(4, (median * 4 // 64).bit_length()))
    sketches = np.empty((len(grams.sizes), words), np.uint64)
    for at in range(0, len(grams.sizes), _CHUNK):
        progress.update(at, len(grams.sizes))
        sizes = grams.sizes[at : at + _CHUNK]
        begin = int(grams.starts[at])
        hashes = grams.hashes[begin : begin + int(sizes.sum())]
        bits = np.uint64(1) << (hashes & np.uint32(63)).astype(np.uint64)
        word = hashes >> np.uint32(6) & np.uint32(words - 1)
        starts = np.cumsum(sizes) - sizes
        for number in range(words):
            chosen = np.where(word == number, bits, np.uint64(0))
            sketches[at : at + len(sizes), number] = np.bitwise_xor.reduceat(chosen, starts)
    return sketches


def flat(starts: Integers, lengths: Integers) -> Pairs:
    """For ranges `starts[i]` … of `lengths[i]`: which range each item is of, and its position."""
    owners = np.repeat(np.arange(len(starts)), lengths)
    before = np.cumsum(lengths) - lengths
    return owners, np.arange(len(owners)) - before[owners] + starts[owners]
