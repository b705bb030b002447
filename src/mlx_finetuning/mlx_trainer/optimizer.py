"""The optimizer and the learning rate's course."""

from __future__ import annotations

import math

import mlx.optimizers as optim

from mlx_finetuning.config import TrainConfig


def learning_rate(config: TrainConfig, update: int) -> float:
    """The rate of update `update` (from 1): linear warm-up, then the chosen course to zero."""
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
    """AdamW with bias correction; the loop sets its rate before each update."""
    return optim.AdamW(0.0, weight_decay=config.weight_decay, bias_correction=True)
