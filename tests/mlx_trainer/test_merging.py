"""Merged adapters against the dense computation, weight by weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_finetuning.config import MergeConfig
from mlx_finetuning.mlx_trainer.model import merging
from mlx_finetuning.mlx_trainer.model.merging import Factors

IN, OUT = 40, 56
WEIGHTS = (0.5, 0.8, 0.3)
Array = NDArray[np.float64]


def adapters() -> list[Factors]:
    """Of ranks 4, 8 and 2, and of scales as alpha / rank and alpha / sqrt(rank) give them."""
    random = np.random.default_rng(1)

    def drawn(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    return [Factors(drawn(IN, r), drawn(r, OUT), s) for r, s in ((4, 8.0), (8, 5.66), (2, 0.5))]


def dense(one: Factors) -> Array:
    return one.scale * (one.a.astype(np.float64) @ one.b.astype(np.float64))


def merged(one: list[Factors | None], weights: Any = WEIGHTS, **settings: Any) -> merging.Merged:
    return merging.merged("layer", one, weights, MergeConfig(**settings))


def test_average_is_exact_whatever_ranks_and_scales() -> None:
    found = merged(list(adapters()), rank=14, strength=1.5)
    expected = 1.5 * sum(w * dense(one) for w, one in zip(WEIGHTS, adapters(), strict=True))
    assert found.a.shape == (IN, 14)
    np.testing.assert_allclose(found.a @ found.b, expected, atol=2e-5 * np.abs(expected).max())


def test_average_of_a_smaller_rank_is_the_nearest_one() -> None:
    found = merged(list(adapters()), rank=6)
    expected = sum(w * dense(one) for w, one in zip(WEIGHTS, adapters(), strict=True))
    cut = np.linalg.svd(expected, compute_uv=False)[6:]
    assert found.lost == pytest.approx(float((cut**2).sum()), rel=1e-3)


def test_layer_that_one_adapter_leaves_alone_has_the_others_change() -> None:
    first, _, third = adapters()
    found = merged([first, None, third], rank=14)
    expected = WEIGHTS[0] * dense(first) + WEIGHTS[2] * dense(third)
    np.testing.assert_allclose(found.a @ found.b, expected, atol=2e-5 * np.abs(expected).max())
    assert found.b.shape == (14, OUT)


def test_experts_are_averaged_one_by_one() -> None:
    random = np.random.default_rng(3)
    stacks = [
        Factors(random.random((5, IN, r), np.float32), random.random((5, r, OUT), np.float32), 2.0)
        for r in (2, 3)
    ]
    found = merged(list(stacks), (0.5, 0.5), rank=5)
    expected = sum(0.5 * one.scale * (one.a @ one.b) for one in stacks)
    np.testing.assert_allclose(found.a @ found.b, expected, rtol=1e-4)


def _ties(density: float) -> Array:
    """Element by element, as the paper's algorithm 1 says it, with weights."""
    trimmed = []
    for weight, one in zip(WEIGHTS, adapters(), strict=True):
        change = dense(one)
        kept = np.argsort(-np.abs(change), axis=None)[: round(density * change.size)]
        mask = np.zeros(change.size, bool)
        mask[kept] = True
        trimmed.append((weight, np.where(mask.reshape(change.shape), change, 0.0)))
    result = np.zeros((IN, OUT))
    for row in range(IN):
        for column in range(OUT):
            values = [(weight, change[row, column]) for weight, change in trimmed]
            sign = np.sign(sum(weight * value for weight, value in values))
            agreeing = [(w, v) for w, v in values if v and np.sign(v) == sign]
            if agreeing:
                total = sum(w for w, _ in agreeing)
                result[row, column] = sum(w * v for w, v in agreeing) / total
    return result


@pytest.mark.parametrize("density", [1.0, 0.3])
def test_ties_equals_the_algorithm_element_by_element(density: float) -> None:
    expected = 0.5 * _ties(density)
    found = merged(list(adapters()), method="ties", density=density, rank=IN, strength=0.5)
    np.testing.assert_allclose(found.a @ found.b, expected, atol=1e-4 * np.abs(expected).max())
    assert found.lost < 1e-8 * found.whole


def test_dare_keeps_the_sum_on_average_and_follows_its_seed() -> None:
    changes = list(adapters())
    settings = {"method": "dare", "density": 0.4, "rank": IN}
    first, again = (merged(changes, **settings) for _ in range(2))
    np.testing.assert_array_equal(first.b, again.b)
    draws = [merged(changes, seed=seed, **settings) for seed in range(300)]
    mean = sum(one.a @ one.b for one in draws) / len(draws)
    expected = sum(w * dense(one) for w, one in zip(WEIGHTS, adapters(), strict=True))
    assert np.abs(mean - expected).mean() < 0.15 * np.abs(expected).mean()
    one = merged(changes[:1], (1.0,), **settings)
    product = one.a @ one.b
    kept = np.abs(product) > 1e-3
    assert kept.mean() == pytest.approx(0.4, abs=0.05)
    np.testing.assert_allclose(product[kept], dense(changes[0])[kept] / 0.4, rtol=0.02, atol=0.02)


def test_cut_to_a_rank_loses_no_more_than_it_has_to_and_says_how_much() -> None:
    """Against the full decomposition, for a matrix that is cut at random."""
    random = np.random.default_rng(5)
    change = random.standard_normal((160, 200)) * 0.05
    change += random.standard_normal((160, 12)) @ random.standard_normal((12, 200))
    change = change.astype(np.float32)
    a, b = merging.low_rank(change, 12, (42, 1))
    best = float((np.linalg.svd(change, compute_uv=False)[12:] ** 2).sum())
    lost = float(np.square(change - a @ b).sum())
    assert best <= lost * (1 + 1e-3) <= best * 1.02
    found = merged(list(adapters()), method="ties", density=0.3, rank=14)
    expected = _ties(0.3)
    error = np.square(found.a @ found.b - expected).sum()
    assert found.lost / found.whole == pytest.approx(error / np.square(expected).sum(), rel=1e-2)
    assert 0.01 < found.lost / found.whole < 0.9
