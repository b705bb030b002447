"""The gradient of a batch, and sums of losses and gradients over many of them, in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches.batches import Batch, RowLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import loss, objectives
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import ActivationCache
from mlx_finetuning.mlx_trainer.model import flat_arrays, lora, split_head, trainable

Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class Sums:
    """Of a batch or of many: the loss, and its gradients by name."""

    loss: mx.array
    """Nats over all supervised targets; where the loss is per row [1 + MARKS], the loss first."""
    gradients: Arrays

    def waited_for(self) -> Sums:
        """Themselves, once they are computed: on a GPU that may still go on."""
        mx.eval(self.loss, self.gradients)
        return self


Gradient = Callable[[Any], tuple[mx.array, Any]]


def gradient_for(model: nn.Module, config: TrainConfig) -> Gradient:
    """What computes the loss that `config` asks for, and its gradients, of a batch."""
    options = loss.LossOptions.of(model, config)
    objective = objectives.of(config)
    if not objective.is_per_row:
        return gradient_of(model, options)

    def value(batch: Any) -> tuple[mx.array, mx.array]:
        sums = objective.summed(model, batch, config, options)
        return sums[0], sums

    gradient = nn.value_and_grad(model, value)

    def of(batch: Any) -> tuple[mx.array, Any]:
        (_, sums), gradients = gradient(batch)
        return sums, gradients

    return of


def sums_of(model: nn.Module, batch: Any, config: TrainConfig) -> list[float]:
    """The loss of `config` over a batch, without gradients, and behind it the marks, if it has any."""
    return numbers(objectives.of(config).summed(model, batch, config, loss.PLAIN))


def numbers(sums: mx.array) -> list[float]:
    """A sum as a list: the loss, and behind it the marks, if it has any."""
    return cast(list[float], sums.reshape(-1).tolist())


def gradient_of(model: nn.Module, options: loss.LossOptions = loss.PLAIN) -> Gradient:
    """Loss and gradients of a batch; compiled on a GPU, where shapes are few.

    On the CPU each new shape would start the C++ compiler, and nothing would be gained.
    """
    value = summed_over(model, options)
    if mx.default_device() != mx.cpu:
        return compiled(model, value)
    gradient = nn.value_and_grad(model, value)
    return lambda batch: gradient(*batch.arrays, batch.segments, batch.reference, batch.lengths)


def summed_over(
    model: nn.Module, options: loss.LossOptions = loss.PLAIN
) -> Callable[..., mx.array]:
    """The summed loss as a function of a batch's arrays."""

    def value(
        tokens: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        segments: mx.array | None = None,
        reference: mx.array | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> mx.array:
        batch = Batch(tokens, positions, targets, weights, 0, (), lengths, segments, reference)
        return loss.summed(model, batch, options)

    return value


def compiled(model: nn.Module, value: Callable[..., mx.array]) -> Gradient:
    """Loss and gradients by kernels that MLX fuses once per shape of a batch.

    Where only LoRA factors are trained, their gradients come as one vector (`flat_arrays.ALL`), and they
    are cast to the type of the model's weights and scaled at once, each by the scale's root.
    """
    arrays = trainable.of(model)
    scale = lora.common_scale(model)
    at_once = lora.are_factors(arrays.arrays()) and scale
    dtype = split_head.norm(model).weight.dtype

    def of_arrays(given: dict[str, mx.array], *batch: Any) -> mx.array:
        arrays.put(given)
        return value(*batch)

    def step(given: Any, *batch: Any) -> tuple[mx.array, Any]:
        if not at_once:
            return mx.value_and_grad(of_arrays)(given, *batch)
        root = math.sqrt(at_once)
        # Not differentiated: the derivative of cutting a vector into n parts is n vectors.
        scaled = arrays.parts((given * root).astype(dtype), dtype)
        with lora.unscaled(model):
            summed, gradients = mx.value_and_grad(of_arrays)(scaled, *batch)
        return summed, {flat_arrays.ALL: arrays.vector(gradients).astype(mx.float32) * root}

    # Loss and gradients only: compile fails where a result does not depend on the parameters.
    drawn = [mx.random.state]
    compiled_step = mx.compile(step, inputs=drawn, outputs=drawn)

    def gradient(batch: Batch) -> tuple[mx.array, Any]:
        before = arrays.arrays()
        try:
            return compiled_step(
                arrays.vector() if at_once else before,
                *batch.arrays,
                batch.segments,
                batch.reference,
            )
        finally:
            arrays.put(before)  # tracing leaves its own arrays in the model

    return gradient


def sums_of_batch(gradient: Gradient, batch: Batch, seed: Sequence[int]) -> Sums:
    """Sums over one `batch`, in this process. `seed` fixes dropout's draws, whatever was drawn before."""
    mx.random.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    value, gradients = gradient(batch)
    sums = Sums(value, dict(tree_flatten(gradients)))
    # On a GPU the next row's kernels are queued while this one's run.
    evaluate: Any = mx.eval if mx.default_device() == mx.cpu else mx.async_eval
    evaluate(sums.loss, sums.gradients)
    return sums


def by_rows(
    gradient: Gradient,
    layout: RowLayout,
    cache: ActivationCache | None,
    examples: Sequence[Item],
    seed: Sequence[int],
) -> Sums:
    """Sums over `examples`, a row of them at a time, so that memory grows with a row only."""
    total: Sums | None = None
    for number, row in enumerate(layout.rows(examples)):
        with cache.standing_in(cast(Sequence[Example], row)) if cache else nullcontext():
            sums = sums_of_batch(gradient, layout.build(row), (*seed, number))
        total = sums if total is None else added(total, sums)
    assert total is not None
    return total


def added(left: Sums, right: Sums) -> Sums:
    """Both sums together; the order of adding decides the last digits."""
    gradients = {name: value + right.gradients[name] for name, value in left.gradients.items()}
    return Sums(left.loss + right.loss, gradients)


def beside(main: Sums, other: Sums, weight: float) -> Sums:
    """The loss of `main`, with the gradients of `other` added by a weight."""
    gradients = {
        name: value + weight * other.gradients[name] for name, value in main.gradients.items()
    }
    return Sums(main.loss, gradients)
