"""Cross-entropy over supervised targets, as sums; `training.loop` divides by an update's targets.

Logits are computed at supervised positions only, a chunk of them at a time. Where nothing behind
the last block is trained, a chunk's gradient is computed together with its loss, so that neither
its logits nor its probabilities are kept for the backward pass.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches.batches import Batch
from mlx_finetuning.mlx_trainer.gradient import (
    checkpointing,
    concatenated_attention,
    neftune,
    packed_attention,
    skipped_work,
)
from mlx_finetuning.mlx_trainer.gradient.checkpointing import Part
from mlx_finetuning.mlx_trainer.kernels import backend, cpu
from mlx_finetuning.mlx_trainer.model import split_head

LOGITS_AT_ONCE = 1 << 20
"""Logits computed at once. On the CPU they then stay in the cache."""
LOGITS_AT_ONCE_GPU = 1 << 26
FEWEST_AT_ONCE = 56
"""Positions computed at once, however large the vocabulary is: its weights are read for each lot."""


@dataclass(frozen=True)
class LossOptions:
    """What is particular to training: its loss is computed otherwise, not another one."""

    recompute: bool = False
    """Whether blocks are computed again for their gradients."""
    noise: float = 0.0
    """NEFTune's alpha."""
    selective: tuple[Part, ...] = ()
    """Parts that keep only products with weights."""

    @staticmethod
    def of(model: nn.Module, config: TrainConfig) -> LossOptions:
        """What `config` asks for on this device."""
        if config.recompute == "on":
            return LossOptions(recompute=True, noise=config.neftune_alpha)
        # On the CPU attention and activation keep little by themselves (`kernels.cpu`).
        parts = () if mx.default_device() == mx.cpu else checkpointing.parts(model)
        if packed_attention.uses_kernels(model):  # which keep no scores
            parts = tuple(part for part in parts if part.owner == "mlp")
        return LossOptions(noise=config.neftune_alpha, selective=parts)


PLAIN = LossOptions()


def summed(model: nn.Module, batch: Batch, options: LossOptions = PLAIN) -> mx.array:
    """Nats over all supervised targets of `batch` (a float32 scalar)."""
    return (each(model, batch, options) * batch.weights).sum()


def hidden(model: nn.Module, batch: Batch) -> mx.array:
    """[positions, d_model]: the last block's outputs before each target, added ones too."""
    with _arranged(model, batch):
        return split_head.hidden_at(model, batch.tokens, batch.positions)


def each(model: nn.Module, batch: Batch, options: LossOptions = PLAIN) -> mx.array:
    """[positions] float32: nats of each target, of those that rounding added too."""
    arrangement = functools.partial(_arranged, model, batch)
    is_separable = split_head.is_separable(model)  # found out on the model as it is
    if options.recompute:
        keeping = checkpointing.recomputed(model, arrangement)
    else:
        keeping = checkpointing.selective(model, options.selective, arrangement)
    with neftune.noise(model, batch, options.noise), arrangement(), keeping:
        if not is_separable:
            logits = split_head.logits_at(model, batch.tokens, batch.positions)
            return cross_entropy(logits, batch.targets)
        unique = batch.lengths is not None
        # [positions, d_model]: the last block's output
        states = split_head.hidden_at(model, batch.tokens, batch.positions, unique=unique)
    limit = LOGITS_AT_ONCE if mx.default_device() == mx.cpu else LOGITS_AT_ONCE_GPU
    size = max(FEWEST_AT_ONCE, limit // split_head.vocabulary(model))
    chunks = [slice(start, start + size) for start in range(0, states.shape[0], size)]
    learned = batch.targets if batch.reference is None else batch.reference
    plain = _head_losses(model) if batch.reference is None else _divergences(model)
    losses = _frozen_head_losses(plain) if head_is_frozen(model) else plain
    return mx.concatenate([losses(states[chunk], learned[chunk]) for chunk in chunks])


def head_is_frozen(model: nn.Module) -> bool:
    """Whether nothing behind the last block is trained."""
    trained = dict(tree_flatten(model.trainable_parameters()))
    return all(".layers." in f".{name}" for name in trained)


def _arranged(model: nn.Module, batch: Batch) -> contextlib.AbstractContextManager[Any]:
    if batch.spans is not None:
        return packed_attention.separated(model, batch.spans)
    if batch.lengths is None:
        return contextlib.nullcontext()
    stack = contextlib.ExitStack()
    stack.enter_context(concatenated_attention.separated(model, batch.lengths))
    stack.enter_context(skipped_work.only_supervised(model, batch.positions, batch.tokens.size))
    return stack


TokenLosses = Callable[[mx.array, mx.array], mx.array]
"""[chunk, d_model] hidden states and [chunk] targets (or [chunk, d_model] of the base) to [chunk] nats."""


def _head_losses(model: nn.Module) -> TokenLosses:
    def of(hidden: mx.array, targets: mx.array) -> mx.array:
        return cross_entropy(split_head.head(model, hidden), targets)

    return of


def _divergences(model: nn.Module) -> TokenLosses:
    """Of the model from the base: Kullback and Leibler's, over the whole vocabulary."""

    def of(hidden: mx.array, reference: mx.array) -> mx.array:
        logits = split_head.head(model, hidden).astype(mx.float32)
        states = mx.stop_gradient(reference.astype(hidden.dtype))
        base = split_head.head(model, states).astype(mx.float32)
        if mx.default_device() == mx.cpu:
            return cpu.divergence(logits, base)
        known = base - mx.logsumexp(base, axis=-1, keepdims=True)
        said = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return (mx.exp(known) * (known - said)).sum(-1)

    return of


def _frozen_head_losses(plain: TokenLosses) -> TokenLosses:
    """The gradient comes with the loss, so that neither logits nor probabilities are kept."""

    @mx.custom_function
    def of(hidden: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        # A target's loss hangs on its own hidden state only: one pass gives the gradient of each.
        ones = mx.ones(targets.shape[:1])
        [losses], [gradients] = mx.vjp(lambda states: plain(states, targets), [hidden], [ones])
        return losses, gradients

    @of.vjp
    def backward(
        primals: tuple[mx.array, ...], upstream: tuple[mx.array, ...], outputs: tuple[mx.array, ...]
    ) -> tuple[mx.array, ...]:
        weights = upstream[0][:, None].astype(outputs[1].dtype)
        return outputs[1] * weights, mx.zeros_like(primals[1])

    return lambda *arrays: cast(tuple[mx.array, mx.array], of(*arrays))[0]


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """[positions] nats of the targets, by their logits [positions, vocabulary]."""
    # On the CPU MLX's own sum over 49,000 tokens is off by 2e-4.
    logits = logits.astype(mx.float32)
    if mx.default_device() == mx.cpu:
        return backend.chosen().cross_entropy(logits, targets)
    return cast(mx.array, nn.losses.cross_entropy(logits, targets))
