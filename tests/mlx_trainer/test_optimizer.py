"""Optimizers against NumPy, the learning rate against its formula, and what decays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.training import optimizer

Values = NDArray[np.float64]
Step = Callable[[Values, Values, float], Values]

CONFIG = TrainConfig(iterations=30, warmup=5, learning_rate=2e-2, weight_decay=0.1)


class Layer(nn.Module):  # type: ignore[misc]
    """A matrix and a norm, as a block has them."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self.weight = mx.array(random.standard_normal((6, 5)).astype(np.float32))
        self.norm = mx.array(random.standard_normal(5).astype(np.float32))


def gradients() -> list[dict[str, Values]]:
    random = np.random.default_rng(1)
    return [
        {"weight": random.standard_normal((6, 5)), "norm": random.standard_normal(5)}
        for _ in range(CONFIG.iterations)
    ]


def trained(config: TrainConfig) -> dict[str, Values]:
    """What our optimizer makes of the gradients."""
    layer, rule = Layer(), optimizer.build(config)
    rule.init(layer.trainable_parameters())
    for update, taken in enumerate(gradients(), 1):
        rule.learning_rate = optimizer.learning_rate(config, update)
        as_arrays = {name: mx.array(value.astype(np.float32)) for name, value in taken.items()}
        optimizer.apply(rule, layer, as_arrays, config)
        mx.eval(layer.parameters(), rule.state)
    return {name: np.array(value, np.float64) for name, value in tree_flatten(layer.parameters())}


def adam() -> Step:
    """Kingma and Ba (2015), algorithm 1."""
    state: dict[str, Any] = {"m": 0.0, "v": 0.0, "t": 0}

    def step(value: Values, gradient: Values, rate: float) -> Values:
        state["t"] += 1
        state["m"] = 0.9 * state["m"] + 0.1 * gradient
        state["v"] = 0.999 * state["v"] + 0.001 * gradient**2
        mean, spread = state["m"] / (1 - 0.9 ** state["t"]), state["v"] / (1 - 0.999 ** state["t"])
        return value - rate * mean / (np.sqrt(spread) + 1e-8)

    return step


def sgd() -> Step:
    """Heavy-ball momentum of 0.9."""
    state: dict[str, Any] = {"velocity": 0.0}

    def step(value: Values, gradient: Values, rate: float) -> Values:
        state["velocity"] = 0.9 * state["velocity"] + gradient
        return value - rate * state["velocity"]

    return step


def adafactor() -> Step:
    """Shazeer and Stern (2018), algorithms 4 and 5, without relative steps and scaling."""
    state: dict[str, Any] = {"rows": 0.0, "columns": 0.0, "whole": 0.0, "t": 0}

    def step(value: Values, gradient: Values, rate: float) -> Values:
        state["t"] += 1
        kept, square = 1 - state["t"] ** -0.8, gradient**2 + 1e-30
        if value.ndim == 1:
            state["whole"] = kept * state["whole"] + (1 - kept) * square
            direction = gradient / np.sqrt(state["whole"])
        else:
            state["rows"] = kept * state["rows"] + (1 - kept) * square.mean(axis=1)
            state["columns"] = kept * state["columns"] + (1 - kept) * square.mean(axis=0)
            outer = np.outer(state["rows"], state["columns"]) / state["rows"].mean()
            direction = gradient / np.sqrt(outer)
        clipped = direction / max(1.0, float(np.sqrt((direction**2).mean())))
        return value - rate * clipped

    return step


def muon() -> Step:
    """Jordan (2024): momentum, five Newton-Schulz steps, Nesterov; SGD for vectors."""
    state: dict[str, Any] = {"velocity": 0.0}

    def step(value: Values, gradient: Values, rate: float) -> Values:
        state["velocity"] = 0.95 * state["velocity"] + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * state["velocity"]
        if value.ndim == 1:
            return value - rate * direction
        scale = max(1.0, value.shape[0] / value.shape[1]) ** 0.5
        return value - rate * scale * orthogonalised(direction)

    return step


def orthogonalised(matrix: Values) -> Values:
    turned = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = turned / (np.linalg.norm(turned) + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


REFERENCES: dict[str, Callable[[], Step]] = {
    "adamw": adam,
    "adam": adam,
    "sgd": sgd,
    "adafactor": adafactor,
    "muon": muon,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_optimizer_follows_its_paper_and_norms_do_not_decay(name: str) -> None:
    config = dataclasses.replace(CONFIG, optimizer=name)
    start = {key: np.array(value, np.float64) for key, value in tree_flatten(Layer().parameters())}
    steps = {key: REFERENCES[name]() for key in start}
    for update, taken in enumerate(gradients(), 1):
        rate = optimizer.learning_rate(config, update)
        start["weight"] = start["weight"] * (1 - rate * config.weight_decay)
        start = {key: steps[key](value, taken[key], rate) for key, value in start.items()}
    ours = trained(config)
    for key, value in start.items():
        np.testing.assert_allclose(ours[key], value, atol=2e-5)


def test_eight_bit_state_is_a_quarter_and_hardly_changes_the_result() -> None:
    exact = trained(dataclasses.replace(CONFIG, optimizer="adamw"))
    rough = trained(dataclasses.replace(CONFIG, optimizer="adamw8bit"))
    start = {key: np.array(value) for key, value in tree_flatten(Layer().parameters())}
    for key, value in exact.items():
        moved = np.abs(value - start[key]).mean()
        assert np.abs(rough[key] - value).mean() < 0.03 * moved
    rule, plain = (optimizer.OPTIMIZERS[name]() for name in ("adamw8bit", "adamw"))
    sizes = []
    for one in (rule, plain):
        one.init({"weight": mx.zeros((256, 256))})
        sizes.append(sum(value.nbytes for _, value in tree_flatten(one.state["weight"])))
    assert sizes[0] < 0.27 * sizes[1]


def test_eight_bit_moments_keep_small_values_beside_large_ones() -> None:
    rule = optim.Adam(1e-2, bias_correction=True), optimizer.OPTIMIZERS["adamw8bit"]()
    gradient = mx.array([[1.0, 1e-3, -1e-3, 0.0] * 64])
    moved = []
    for one in rule:
        one.learning_rate = 1e-2
        value = {"weight": mx.zeros(gradient.shape)}
        for _ in range(20):
            value = one.apply_gradients({"weight": gradient}, value)
        moved.append(np.array(value["weight"]))
    np.testing.assert_allclose(moved[1], moved[0], rtol=0.15, atol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 40])
def test_rate_warms_up_linearly_and_then_follows_its_formula(schedule: str, warmup: int) -> None:
    config = dataclasses.replace(CONFIG, schedule=schedule, warmup=warmup)
    rates = np.array([optimizer.learning_rate(config, n) for n in range(1, 31)]) / 2e-2
    rising = min(warmup, 30)
    np.testing.assert_allclose(rates[:rising], np.arange(1, rising + 1) / max(rising, 1))
    share = np.arange(30 - rising) / max(30 - rising, 1)
    expected = {
        "cosine": (1 + np.cos(np.pi * share)) / 2,
        "linear": 1 - share,
        "constant": np.ones(30 - rising),
    }[schedule]
    np.testing.assert_allclose(rates[rising:], expected, atol=1e-12)
