"""Gradient checkpointing: a block keeps its input and computes the rest again in the backward pass.

Memory falls from all of a block's intermediate values to one, for about a third more time. Only
blocks with something to train are wrapped; the others keep nothing anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from mlx_finetuning.mlx_trainer import heads

Arrangement = Callable[[], AbstractContextManager[Any]]
"""Enters what stands in for parts of the model during an update."""


class _Recomputed(nn.Module):  # type: ignore[misc]
    """Stands for a block during one update: has its parts, and keeps nothing of what it computes."""

    def __init__(self, block: nn.Module, arrangement: Arrangement) -> None:
        super().__init__()
        self.__dict__["_of"] = block
        self.__dict__["_arrangement"] = arrangement

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_of"], name)

    def __call__(self, x: mx.array, *rest: Any, **named: Any) -> mx.array:
        block = self.__dict__["_of"]
        state: Any = mx.random.state
        before = mx.array(state[0])

        arranged: list[Arrangement] = [nullcontext]

        def compute(trained: dict[str, Any], x: mx.array, *given: mx.array) -> mx.array:
            # The second time as the first: dropout has to leave out the same values.
            state[0][:] = before
            with arranged[0]():
                arranged[0] = self.__dict__["_arrangement"]
                block.update(trained)
                others, names = _with_arrays([rest, named], given)
                return cast(mx.array, block(x, *others, **names))

        return mx.checkpoint(compute)(block.trainable_parameters(), x, *_arrays([rest, named]))


def _arrays(given: Any) -> list[mx.array]:
    """What gradients pass through of a block's other inputs: Gemma 4's shared keys and values."""
    return [leaf for _, leaf in tree_flatten(given) if _is_passed(leaf)]


def _with_arrays(given: Any, arrays: Sequence[mx.array]) -> Any:
    """The same inputs with these arrays in the place of theirs."""
    following = iter(arrays)
    return tree_map(lambda leaf: next(following) if _is_passed(leaf) else leaf, given)


def _is_passed(leaf: Any) -> bool:
    return isinstance(leaf, mx.array) and mx.issubdtype(leaf.dtype, mx.floating)


@contextmanager
def recomputed(model: nn.Module, arrangement: Arrangement) -> Iterator[None]:
    """Inside, the model's trained blocks keep nothing. To be entered within an `arrangement`, which
    is entered again for the backward pass: by then the forward pass and its contexts are over.
    """
    layers = heads.blocks(model)
    before = list(layers)
    layers[:] = [
        _Recomputed(block, arrangement) if _is_trained(block) else block for block in before
    ]
    try:
        yield
    finally:
        layers[:] = before


def _is_trained(block: nn.Module) -> bool:
    return bool(tree_flatten(block.trainable_parameters()))
