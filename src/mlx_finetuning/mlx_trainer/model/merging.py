"""Several LoRA adapters of one base as one: a weighted average, TIES or DARE. In NumPy, layer by layer.

linear: the sum of the weighted changes, exactly: factors of all adapters stand side by side, so the rank
is the sum of theirs. (Averaging factors themselves, as is often done, gives cross terms instead.)
ties: Yadav et al. 2023. Of each change the largest entries are kept, a sign is elected for each weight by
the sum over adapters, and those that agree with it are averaged.
dare: Yu et al. 2024. Entries are dropped by chance, the rest is scaled up, and the sum is taken.
What the last two give has no low rank, nor has an average of too small a rank. It is cut to one by a randomized singular value decomposition
(Halko et al. 2011), and how much is lost is measured against the dense change.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.config import MergeConfig

Array = NDArray[np.float32]
Deltas = Sequence[Array | None]
"""The adapters' dense changes of a weight; None for those that leave it as it is."""
Seed = tuple[int, int]
OVERSAMPLED = 16
POWER_ITERATIONS = 4


@dataclass(frozen=True)
class Factors:
    """What an adapter adds to a weight: scale * a @ b, [in, out]; of experts a stack of such."""

    a: Array
    """[..., in, rank]"""
    b: Array
    """[..., rank, out]"""
    scale: float

    @property
    def dense(self) -> Array:
        """[..., in, out]"""
        product: Array = (self.a @ self.b) * np.float32(self.scale)
        return product


@dataclass(frozen=True)
class Merged:
    """A merged change as factors of scale 1."""

    a: Array
    b: Array
    lost: float
    """Squared Frobenius norm of what the rank cut off."""
    whole: float
    """Of the dense change."""


def merged(
    name: str, adapters: Sequence[Factors | None], weights: Sequence[float], config: MergeConfig
) -> Merged:
    """The change of the weight `name`. adapters: None for those that leave it as it is; config: its
    `rank` is settled. Deterministic for the seed."""
    there = [(one, weight) for one, weight in zip(adapters, weights, strict=True) if one]
    strength = np.float32(config.strength)
    if config.method == "linear" and sum(one.a.shape[-1] for one, _ in there) <= config.rank:
        a = np.concatenate([one.a for one, _ in there], axis=-1)
        b = np.concatenate([np.float32(one.scale * w) * one.b for one, w in there], axis=-2)
        return Merged(*_padded(a, b * strength, config.rank), 0.0, 0.0)
    seed = (config.seed, zlib.crc32(name.encode()))
    deltas = [None if one is None else one.dense for one in adapters]
    change = METHODS[config.method](deltas, weights, config, seed) * strength
    a, b = low_rank(change, config.rank, seed)
    return Merged(*_padded(a, b, config.rank), _squared(change - a @ b), _squared(change))


def linear(deltas: Deltas, weights: Sequence[float], config: MergeConfig, seed: Seed) -> Array:
    """The weighted sum."""
    changes = [
        np.float32(weight) * delta
        for delta, weight in zip(deltas, weights, strict=True)
        if delta is not None
    ]
    total: Array = np.sum(changes, axis=0, dtype=np.float32)
    return total


def ties(deltas: Deltas, weights: Sequence[float], config: MergeConfig, seed: Seed) -> Array:
    """Trim, elect, merge: the weighted mean over the adapters that agree with the elected sign, so that
    an entry that one adapter alone has kept keeps its size."""
    trimmed = [
        (np.float32(weight) * _largest(delta, config.density), np.float32(weight))
        for delta, weight in zip(deltas, weights, strict=True)
        if delta is not None
    ]
    elected = np.sign(sum(delta for delta, _ in trimmed))
    total: Array = np.zeros_like(trimmed[0][0])
    agreeing: Array = np.zeros_like(total)
    for delta, weight in trimmed:
        agrees = (np.sign(delta) == elected) & (delta != 0)
        total += np.where(agrees, delta, 0)
        agreeing += np.where(agrees, weight, 0)
    agreeing[agreeing == 0] = 1
    return total / agreeing


def dare(deltas: Deltas, weights: Sequence[float], config: MergeConfig, seed: Seed) -> Array:
    """Drop and rescale, then the weighted sum. An adapter's draws are its own, whatever others there are."""
    changes = []
    for place, (delta, weight) in enumerate(zip(deltas, weights, strict=True)):
        if delta is not None:
            kept = np.random.default_rng((*seed, place)).random(delta.shape) < config.density
            changes.append(np.where(kept, delta, 0) * np.float32(weight / config.density))
    total: Array = np.sum(changes, axis=0, dtype=np.float32)
    return total


METHODS = {"linear": linear, "ties": ties, "dare": dare}


def low_rank(change: Array, rank: int, seed: Seed) -> tuple[Array, Array]:
    """Factors [in, rank] and [rank, out] nearest to `change` [in, out], or nearly so."""
    smaller = min(change.shape)
    if rank + OVERSAMPLED >= smaller:
        u, s, v = np.linalg.svd(change, full_matrices=False)
    else:
        drawn = np.random.default_rng(seed).standard_normal((change.shape[1], rank + OVERSAMPLED))
        basis = np.linalg.qr(change @ drawn.astype(np.float32))[0]
        for _ in range(POWER_ITERATIONS):
            basis = np.linalg.qr(change @ np.linalg.qr(change.T @ basis)[0])[0]
        inner, s, v = np.linalg.svd(basis.T @ change, full_matrices=False)
        u = basis @ inner
    root = np.sqrt(s[:rank])
    return (u[:, :rank] * root).astype(np.float32), (root[:, None] * v[:rank]).astype(np.float32)


def _largest(delta: Array, density: float) -> Array:
    """With all but the largest share of entries set to 0."""
    count = max(1, round(density * delta.size))
    if count == delta.size:
        return delta
    least = np.partition(np.abs(delta), delta.size - count, axis=None)[delta.size - count]
    return np.where(np.abs(delta) >= least, delta, np.float32(0))


def _padded(a: Array, b: Array, rank: int) -> tuple[Array, Array]:
    """With zeros up to `rank`, as all layers of an adapter have one rank."""
    missing = rank - a.shape[-1]
    before = [(0, 0)] * (a.ndim - 2)
    return (
        np.pad(a, [*before, (0, 0), (0, missing)]),
        np.pad(b, [*before, (0, missing), (0, 0)]),
    )


def _squared(values: Array) -> float:
    return float(np.square(values, dtype=np.float64).sum())
