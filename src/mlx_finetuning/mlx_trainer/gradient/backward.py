"""The gradient of a batch, and sums of losses and gradients over many of them, in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches.batches import Batch, BatchLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import joint_layers, loss, objectives
from mlx_finetuning.mlx_trainer.gradient.joint_layers import JointLayers
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import ActivationCache
from mlx_finetuning.mlx_trainer.kernels.cuda_kernels import Spans
from mlx_finetuning.mlx_trainer.model import flat_arrays, lora, trainable

Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class Sums:
    """Of a batch or of many: the loss, and its gradients."""

    loss: mx.array
    """Nats over all supervised targets; where the loss is per item [1 + MARKS], the loss first."""
    gradients: Arrays
    """By name, or joined under the name `flat_arrays.ALL`."""

    def waited_for(self) -> Sums:
        """Themselves, once they are computed: on a GPU that may still go on."""
        mx.eval(self.loss, self.gradients)
        return self

    def joined(self, trained: trainable.TrainedArrays) -> Sums:
        """The same, with the gradients of LoRA's factors as one vector."""
        return Sums(self.loss, dict(trained.joined(self.gradients)))


Gradient = Callable[[Any], tuple[mx.array, Any]]
"""A batch's loss, and behind it the marks, if it has any; the gradients of the loss."""


def gradient_for(model: nn.Module, config: TrainConfig, *, is_compiled: bool = True) -> Gradient:
    """What computes the loss that `config` asks for, and its gradients, of a batch; as `gradient_of` does,
    or without compiling."""
    options = loss.LossOptions.of(model, config)
    objective = objectives.of(config)
    if objective.is_per_item:
        return per_item(model, lambda batch: objective.summed(model, batch, config, options))
    return gradient_of(model, options) if is_compiled else uncompiled(model, options)


def per_item(model: nn.Module, summed: Callable[[Any], mx.array]) -> Gradient:
    """By `summed`, which gives [1 + MARKS] of a batch, the loss first."""

    def loss_and_sums(batch: Any) -> tuple[mx.array, mx.array]:
        sums = summed(batch)  # [1 + MARKS]
        return sums[0], sums  # the first is differentiated

    differentiated = nn.value_and_grad(model, loss_and_sums)

    def gradient(batch: Any) -> tuple[mx.array, Any]:
        (_, sums), gradients = differentiated(batch)
        return sums, gradients

    return gradient


def gradient_of(model: nn.Module, options: loss.LossOptions = loss.PLAIN) -> Gradient:
    """By `loss.summed`; compiled on a GPU, where shapes are few.

    On the CPU each new shape would start the C++ compiler, and nothing would be gained.
    """
    return uncompiled(model, options) if mx.default_device() == mx.cpu else compiled(model, options)


def uncompiled(model: nn.Module, options: loss.LossOptions = loss.PLAIN) -> Gradient:
    """By `loss.summed`, operation by operation, each layer by itself."""
    gradient: Gradient = nn.value_and_grad(model, lambda batch: loss.summed(model, batch, options))
    return gradient


def compiled(model: nn.Module, options: loss.LossOptions = loss.PLAIN) -> Gradient:
    """The same by kernels that MLX fuses once per shape of a batch.

    Where only LoRA factors are trained, they and their gradients are one vector (`flat_arrays.ALL`), and
    layers with the same input are one.
    """
    trained = trainable.of(model)
    scale = lora.common_scale(model) if lora.are_factors(trained.arrays()) else None
    # What a block that is computed again is a function of is its own arrays.
    joint = joint_layers.of(model, trained) if scale and not options.recompute else None
    summed = LossOfArrays(model, options, joint or trained)
    step = (
        partial(_step_of_vector, summed, math.sqrt(scale)) if scale else mx.value_and_grad(summed)
    )
    # Loss and gradients only: compile fails where a result does not depend on the parameters.
    drawn = [mx.random.state]
    own: list[Arrays] = []

    def traced(*values: Any) -> tuple[mx.array, Any]:
        own.append(trained.arrays())
        return step(*values)

    compiled_step = mx.compile(traced, inputs=drawn, outputs=drawn)

    def gradient(batch: Batch) -> tuple[mx.array, Any]:
        given = trained.vector() if scale else trained.arrays()
        try:
            spans = batch.spans and batch.spans.arrays
            return compiled_step(given, *batch.arrays, spans, batch.reference)
        finally:
            if own:  # tracing leaves its arrays in the model
                trained.put(own.pop())

    return gradient


@dataclass(frozen=True)
class LossOfArrays:
    """A batch's loss as a function of arrays alone: the trained ones and the batch's."""

    model: nn.Module
    options: loss.LossOptions
    trained: trainable.TrainedArrays | JointLayers

    def __call__(
        self,
        given: Arrays,
        tokens: mx.array,
        positions: mx.array,
        targets: mx.array,
        weights: mx.array,
        spans: tuple[mx.array, mx.array, mx.array] | None,
        reference: mx.array | None,
    ) -> mx.array:
        """Nats, with the arrays `given` in the place of the trained ones; shapes as in `Batch`."""
        batch = Batch(
            tokens,
            positions,
            targets,
            weights,
            supervised=0,
            rows=(),
            spans=Spans(*spans) if spans else None,
            reference=reference,
        )
        with self.trained.given(given):
            return loss.summed(self.model, batch, self.options)


def _step_of_vector(
    summed: LossOfArrays, root: float, vector: mx.array, *batch: Any
) -> tuple[mx.array, Arrays]:
    """Of all factors in `vector`: cast to the type of the model's weights at once, and each scaled by
    the root of LoRA's scale, so that their products are scaled by the whole."""
    model, trained = summed.model, summed.trained
    dtype = lora.dtype(model)
    # Not differentiated: the derivative of cutting a vector into n parts is n vectors.
    factors = trained.parts((vector * root).astype(dtype), dtype)  # each [in, rank] or [rank, out]
    with lora.unscaled(model):
        value, gradients = mx.value_and_grad(summed)(factors, *batch)
    whole = trained.vector(gradients).astype(mx.float32) * root  # [elements], as `vector`
    return value, {flat_arrays.ALL: whole}


def loss_and_marks(model: nn.Module, batch: Any, config: TrainConfig) -> list[float]:
    """The loss of `config` over a batch, without gradients, and behind it the marks, if it has any."""
    return numbers(objectives.of(config).summed(model, batch, config, loss.PLAIN))


def numbers(sums: mx.array) -> list[float]:
    """A sum as a list: the loss, and behind it the marks, if it has any."""
    return cast(list[float], sums.reshape(-1).tolist())


def sums_of_examples(
    gradient: Gradient,
    layout: BatchLayout,
    cache: ActivationCache | None,
    examples: Sequence[Item],
    seed: Sequence[int],
) -> Sums:
    """Sums over `examples`, batch by batch, so that memory grows with a batch only."""
    total: Sums | None = None
    for number, group in enumerate(layout.grouped(examples)):
        with cache.standing_in(cast(Sequence[Example], group)) if cache else nullcontext():
            sums = sums_of_batch(gradient, layout.build(group), (*seed, number))
        total = sums if total is None else added(total, sums)
    assert total is not None
    return total


def sums_of_batch(gradient: Gradient, batch: Batch, seed: Sequence[int]) -> Sums:
    """Sums over one `batch`, in this process. `seed` fixes dropout's draws, whatever was drawn before."""
    mx.random.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    value, gradients = gradient(batch)
    sums = Sums(value, dict(tree_flatten(gradients)))
    # On a GPU the next batch's kernels are queued while this one's run.
    evaluate: Any = mx.eval if mx.default_device() == mx.cpu else mx.async_eval
    evaluate(sums.loss, sums.gradients)
    return sums


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
