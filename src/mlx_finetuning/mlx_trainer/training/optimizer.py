"""The optimizer and the learning rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.kernels.adam8bit import Adam8bit
from mlx_finetuning.mlx_trainer.model import trainable
from mlx_finetuning.mlx_trainer.model.flat_arrays import ALL, Layout

OPTIMIZERS: dict[str, Callable[[], optim.Optimizer]] = {
    "adamw": lambda: optim.AdamW(0.0, weight_decay=0.0, bias_correction=True),
    "adamw8bit": lambda: Adam8bit(0.0, bias_correction=True),
    "adam": lambda: optim.Adam(0.0, bias_correction=True),
    "adafactor": lambda: optim.Adafactor(0.0, relative_step=False, scale_parameter=False),
    "muon": lambda: optim.Muon(0.0, weight_decay=0.0),
    "sgd": lambda: optim.SGD(0.0, momentum=0.9),
}

ELEMENTWISE = ("adamw", "adam", "sgd")
"""Optimizers to which an array's shape means nothing."""


def learning_rate(config: TrainConfig, update: int) -> float:
    """The rate of update `update` (from 1): linear warm-up, then the chosen schedule to zero."""
    warmup = min(config.warmup, config.iterations)
    if update <= warmup:
        return config.learning_rate * update / warmup
    if config.schedule == "constant":
        return config.learning_rate
    left = 1 - (update - warmup - 1) / max(1, config.iterations - warmup)
    if config.schedule == "linear":
        return config.learning_rate * left
    return config.learning_rate * 0.5 * (1 - math.cos(math.pi * left))


def build(config: TrainConfig) -> optim.Optimizer:
    """The optimizer itself; `apply` gives it its rate and the weight decay."""
    optimizer = OPTIMIZERS[config.optimizer]()
    # All weights of a model as one vector would be a copy too many.
    at_once = config.optimizer in ELEMENTWISE and config.method != "full"
    return in_one_step(optimizer) if at_once else optimizer


def in_one_step(optimizer: optim.Optimizer) -> optim.Optimizer:
    """Let an element-wise optimizer step all arrays as one vector; its state is one vector too."""
    plain_init, plain = optimizer.init, optimizer.apply_gradients

    def init(parameters: Any) -> None:
        plain_init({ALL: Layout(parameters).vector(parameters)})

    def update(model: nn.Module, gradients: Any) -> None:
        arrays = trainable.of(model)
        if ALL not in gradients:
            gradients = {ALL: arrays.vector(dict(tree_flatten(gradients)))}
        arrays.put_vector(plain(gradients, {ALL: arrays.vector()})[ALL])

    optimizer.init, optimizer.update = init, update
    return optimizer


def put_state(optimizer: optim.Optimizer, model: nn.Module, state: Any) -> None:
    """Let the optimizer go on from a state that was kept, also from one of each array's own, as the CPU's
    checkpoints once had it."""
    arrays = trainable.of(model)
    kept = dict(tree_flatten(state))
    first = next(iter(arrays.arrays()))
    own = [name.removeprefix(f"{first}.") for name in kept if name.startswith(f"{first}.")]
    if ALL in optimizer.state and own:
        names = list(arrays.arrays())
        vectors = {
            key: arrays.vector({name: kept[f"{name}.{key}"] for name in names}) for key in own
        }
        state = {key: kept[key] for key in ("step", "learning_rate")} | {ALL: vectors}
    optimizer.state = state
    mx.eval(state)


def clipped(
    sums: Mapping[str, mx.array], weight: float, limit: float
) -> tuple[dict[str, Any], mx.array]:
    """Gradients of the mean over `weight` targets as a tree, limited to a global norm (0 for none),
    and the norm before."""
    mean = {name: value / weight for name, value in sums.items()}
    limited, norm = optim.clip_grad_norm(mean, limit if limit > 0 else math.inf)
    chosen = limited if limit > 0 else mean
    return tree_unflatten(list(chosen.items())), norm


def apply(
    optimizer: optim.Optimizer, model: nn.Module, gradients: dict[str, Any], config: TrainConfig
) -> None:
    """One step at the optimizer's rate, after decoupled weight decay of all but norms and biases."""
    if config.weight_decay:
        remaining = 1.0 - optimizer.learning_rate * config.weight_decay

        def decayed(value: mx.array) -> mx.array:
            return value * remaining.astype(value.dtype) if value.ndim > 1 else value

        arrays = trainable.of(model)
        arrays.put(tree_map(decayed, arrays.arrays()))
    if ALL in gradients and config.optimizer not in ELEMENTWISE:
        parts = trainable.of(model).parts(gradients[ALL])
        gradients = tree_unflatten(list(parts.items()))
    optimizer.update(model, gradients)
