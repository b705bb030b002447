"""What an update need not compute, left out without changing its result.

Of the last block: queries, output and MLP at positions whose prediction nobody asks for. Of the
blocks below the first trained one: everything, once an example's output is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import concatenated_attention
from mlx_finetuning.mlx_trainer.kernels import gather
from mlx_finetuning.mlx_trainer.model import split_head

_POSITION_WISE = (
    ("", "mlp"),
    ("", "feed_forward"),
    ("self_attn", "q_proj"),
    ("self_attn", "o_proj"),
    ("self_attn", "out_proj"),
    ("conv", "out_proj"),
)
"""Of a block: a part, nothing for the block itself, and its module."""
LARGEST_CACHE = 4e9
"""Bytes of outputs that are kept at most; they lie in a file that the system caches."""


class _Somewhere(nn.Module):  # type: ignore[misc]
    """A position-wise module, applied at some positions; zero at the others."""

    def __init__(self, module: nn.Module, positions: mx.array, places: mx.array) -> None:
        super().__init__()
        self.module = module
        self._where = (positions, places)

    def __call__(self, x: mx.array) -> mx.array:
        # No index instead of `squeeze`: its derivative is a scatter.
        taken = cast(mx.array, gather.take(x.squeeze(0), *self._where))
        made = self.module(taken[None]).squeeze(0)
        return cast(mx.array, gather.spread(made, *self._where))[None]


@contextmanager
def only_supervised(model: nn.Module, positions: mx.array, length: int) -> Iterator[None]:
    """Inside, the last block does no position-wise work at other positions of its one row.

    positions: unique indices below `length`.
    """
    block = model.layers[-1]
    places = gather.places(positions, length)
    with ExitStack() as changes:
        for part, name in _POSITION_WISE:
            owner = getattr(block, part, None) if part else block
            module = getattr(owner, name, None)
            if isinstance(module, nn.Module):
                somewhere = _Somewhere(module, positions, places)
                changes.enter_context(concatenated_attention.replaced(owner, name, somewhere))
        yield


class _StandIn(nn.Module):  # type: ignore[misc]
    """A block's attributes with another output: one that is known, or one that is noted."""

    def __init__(self, block: nn.Module, known: mx.array | None = None) -> None:
        super().__init__()
        self.__dict__["_of"] = block
        self.__dict__["output"] = known

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_of"], name)

    def __call__(self, x: mx.array, *rest: Any, **named: Any) -> mx.array:
        if self.__dict__["output"] is None:
            self.__dict__["output"] = self.__dict__["_of"](x, *rest, **named)
        return cast(mx.array, self.__dict__["output"])


@contextmanager
def _standing_in(model: nn.Module, index: int, stand_in: _StandIn) -> Iterator[None]:
    layers = split_head.blocks(model)
    block = layers[index]
    layers[index] = stand_in
    try:
        yield
    finally:
        layers[index] = block


def lowest_trained(model: nn.Module) -> int:
    """Index of the first block with something to train; 0 too where anything beside blocks has."""
    indices = []
    for name, _ in tree_flatten(model.trainable_parameters()):
        parts = name.split(".")
        if "layers" not in parts:
            return 0
        indices.append(int(parts[parts.index("layers") + 1]))
    return min(indices, default=0)


def can_keep(model: nn.Module) -> bool:
    """Whether a block hands on its output alone: Gemma 4's hand on keys and values too."""
    noted = _StandIn(model.layers[0])
    with _standing_in(model, 0, noted):
        split_head.body(model)(mx.zeros((1, 1), mx.int32))
    return isinstance(noted.__dict__["output"], mx.array)


class ActivationCache:
    """Outputs of the last untrained block, per example, in a file that processes share.

    An example's output is computed from it alone, so that it is the same to the last bit whenever
    and beside whatever it is computed. Who uses the file says which examples are in it already.
    """

    def __init__(self, model: nn.Module, path: Path, tokens: int, width: int) -> None:
        self._model = model
        self._below = lowest_trained(model) - 1
        self._outputs = np.memmap(path, np.float32, "r+", shape=(tokens, width))

    @contextmanager
    def cached(self, examples: Sequence[Example]) -> Iterator[None]:
        """Inside, the lower blocks of the model give the kept outputs of these examples."""
        parts = [self._output(example) for example in examples]
        block = self._model.layers[self._below]
        known = _StandIn(block, mx.array(np.concatenate(parts)[None]))
        with _standing_in(self._model, self._below, known):
            yield

    def _output(self, example: Example) -> np.ndarray[Any, Any]:
        assert example.place is not None
        start = example.place.start
        room = self._outputs[start : start + len(example.tokens) - 1]
        if not example.place.is_known:
            room[:] = self._computed(example)
        return room

    def _computed(self, example: Example) -> np.ndarray[Any, Any]:
        inputs = mx.array([example.tokens[:-1]])
        noted = _StandIn(self._model.layers[self._below])
        with (
            concatenated_attention.separated(self._model, (inputs.size,)),
            _standing_in(self._model, self._below, noted),
        ):
            split_head.body(self._model)(inputs)
        return np.array(noted.__dict__["output"][0])
