"""Character 5-grams of many texts as sorted sets of 32-bit hashes, in one long array.

Two different grams share a hash once in four thousand million pairs; between two texts of fifty
grams that is once in a million comparisons, and shifts the similarity by a fiftieth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress

GRAM = 5

CHUNK_CHARACTERS = 1 << 21
_MAX_CHUNK_TEXTS = 1 << 17
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_RARITY_BITS = 14
_BUCKETS = 1 << 22

Hashes = NDArray[np.uint32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class GramSets:
    """The distinct grams of each text, the rarest first, one text after the other."""

    hashes: Hashes
    """[all grams]"""
    starts: Integers
    """[texts] where each set begins in `hashes`."""
    sizes: Integers
    """[texts] distinct grams; at least 1."""


def hashed(texts: Sequence[str]) -> tuple[Hashes, Integers]:
    """[all grams] hash and text index of each gram; a text under 5 characters is one gram."""
    padded = "".join([text.ljust(GRAM, "\0") for text in texts])
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.array([max(len(text), GRAM) for text in texts])
    owners = np.repeat(np.arange(len(texts)), lengths)
    mixed = np.zeros(len(codes) - GRAM + 1, np.uint64)
    for offset in range(GRAM):
        mixed *= _MULTIPLIER
        mixed += codes[offset : len(mixed) + offset]
    mixed *= _MULTIPLIER
    inside = owners[: len(mixed)] == owners[GRAM - 1 :]
    return (mixed >> np.uint64(32)).astype(np.uint32)[inside], owners[: len(mixed)][inside]


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Consecutive texts of about two million characters together, with the index of the first."""
    start = characters = 0
    for at, text in enumerate(texts):
        characters += len(text)
        if characters >= CHUNK_CHARACTERS or at + 1 - start >= _MAX_CHUNK_TEXTS:
            yield start, texts[start : at + 1]
            start, characters = at + 1, 0
    if start < len(texts):
        yield start, texts[start:]


def gram_sets(texts: Sequence[str], progress: StageProgress = SILENT) -> GramSets:
    """The sets of all texts; a gram's rarity is its number of occurrences over all of them."""
    occurrences = np.zeros(_BUCKETS, np.int64)
    grams_of_chunks = []
    for start, chunk in _chunks(texts):
        progress.update(start, 2 * len(texts))
        hashes, owners = hashed(chunk)
        grams_of_chunks.append((hashes, owners.astype(np.uint32), len(chunk)))
        occurrences += np.bincount(_bucket(hashes), minlength=_BUCKETS)
    hashes_of_chunks, sizes_of_chunks = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
    start = 0
    for hashes, owners_of_32_bits, size in grams_of_chunks:
        progress.update(len(texts) + start, 2 * len(texts))
        start += size
        owners = owners_of_32_bits.astype(np.int64)
        rarity = np.minimum(occurrences[_bucket(hashes)], (1 << _RARITY_BITS) - 1)
        # One number per gram sorts by text, then by rarity; a repeated gram counts once.
        keys = np.sort((owners << _RARITY_BITS | rarity) << 32 | hashes)
        keys = keys[np.diff(keys, prepend=-1) != 0]
        hashes_of_chunks.append((keys & 0xFFFFFFFF).astype(np.uint32))
        sizes_of_chunks.append(np.bincount(keys >> (32 + _RARITY_BITS), minlength=size))
    sizes = np.concatenate(sizes_of_chunks)
    return GramSets(np.concatenate(hashes_of_chunks), np.cumsum(sizes) - sizes, sizes)


def _bucket(hashes: Hashes) -> Integers:
    return (hashes >> np.uint32(10)).astype(np.int64)
