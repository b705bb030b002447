"""Each batch layout that this device can compute, tried on one update: its gradient against that of
padded examples by MLX alone, and its time. A trial changes nothing of what runs choose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import mlx.core as mx
from mlx.utils import tree_map

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.jobs.results import LayoutTrial
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.gradient import backward, objectives
from mlx_finetuning.mlx_trainer.gradient.backward import Sums
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.model import adapters, split_head, trainable
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tokenization.rows import Row

STAGE = N_("行の並べ方の測定")
ROUNDS = 5
FLOAT32_TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2
"""Relative differences of gradients that rounding explains."""


def trials(
    loaded: LoadedModel, rows: Sequence[Row], config: TrainConfig, progress: Progress
) -> tuple[LayoutTrial, ...]:
    """The first update of a run on `rows`, by each layout in turn; the padded one comes first.

    Attaches an adapter with random factors to `loaded`, for new ones have no gradient in half of
    their factors.
    """
    config = objectives.settled(config, rows)
    examples = objectives.of(config).encode(loaded, rows, config, rows)
    mx.random.seed(config.seed)
    adapters.attach(loaded.model, config)
    factors = loaded.model.trainable_parameters()
    shifted = tree_map(lambda value: value + 0.01 * mx.random.normal(value.shape), factors)
    loaded.model.update(shifted)
    first = next(batches.endless(len(examples), config.batch_size, config.seed))
    update = [examples[index] for index in first]
    layouts = {"padded": batches.PADDED, "packed": batches.PACKED}
    if (
        mx.default_device() == mx.cpu
    ):  # whose sequences have lengths of their own, so it cannot be compiled
        layouts["concatenated"] = batches.CONCATENATED
    chosen = workload.batch_layout(loaded.model, len(loaded.tokenizer.vocab), config)
    gradient = backward.gradient_for(loaded.model, config)
    expected = _by_padded_rows(loaded, config, update)
    sums: dict[str, Sums] = {}
    seconds = {name: float("inf") for name in layouts}
    # The first round compiles; then in alternation, so that other work on the machine meets all.
    for number in range(1 + ROUNDS):
        for name, layout in layouts.items():
            began_s = time.perf_counter()
            found = backward.sums_of_examples(gradient, layout, None, update, (config.seed,))
            sums[name] = found.waited_for().joined(trainable.of(loaded.model))
            if number:
                seconds[name] = min(seconds[name], time.perf_counter() - began_s)
        progress(Step(_(STAGE), number, ROUNDS))
    is_exact = split_head.norm(loaded.model).weight.dtype == mx.float32
    tolerance = FLOAT32_TOLERANCE if is_exact else HALF_TOLERANCE
    return tuple(
        LayoutTrial(
            layout=name,
            seconds=round(seconds[name], 5),
            difference=(
                difference := relative_difference(sums[name].gradients, expected.gradients)
            ),
            agrees=difference <= tolerance,
            is_chosen=layouts[name] == chosen,
        )
        for name in layouts
    )


def _by_padded_rows(loaded: LoadedModel, config: TrainConfig, update: Sequence[Item]) -> Sums:
    """By MLX's own operations, layer by layer, where a GPU has kernels of ours and layers that are joined."""
    plain = backward.gradient_for(loaded.model, config, is_compiled=False)
    sums = backward.sums_of_examples(plain, batches.PADDED, None, update, (config.seed,))
    return sums.waited_for().joined(trainable.of(loaded.model))


def relative_difference(found: Mapping[str, mx.array], expected: Mapping[str, mx.array]) -> float:
    """‖found − expected‖ / ‖expected‖ over all arrays."""
    return _norm(expected, lambda name: found[name] - expected[name]) / _norm(
        expected, lambda name: expected[name]
    )


def _norm(names: Mapping[str, mx.array], array: Callable[[str], mx.array]) -> float:
    squares = [array(name).astype(mx.float32).square().sum() for name in names]
    return float(mx.sqrt(mx.stack(squares).sum()))
