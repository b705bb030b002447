"""What an update need not compute, left out without changing its result.

Of the last block: queries, output and MLP at positions whose prediction nobody asks for. Of the
blocks below the first trained one: everything, once an example's output is cached.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from mlx_finetuning.mlx_trainer.batches.examples import CacheSlot, Example
from mlx_finetuning.mlx_trainer.gradient import concatenated_attention
from mlx_finetuning.mlx_trainer.kernels import gather
from mlx_finetuning.mlx_trainer.model import split_head
from mlx_finetuning.mlx_trainer.model.patching import Proxy, replaced, replaced_block

_POSITION_WISE = (
    ("", "mlp"),
    ("", "feed_forward"),
    ("self_attn", "q_proj"),
    ("self_attn", "o_proj"),
    ("self_attn", "out_proj"),
    ("conv", "out_proj"),
)
"""Of a block: a part, nothing for the block itself, and its module."""
_LAYER = re.compile(r"\blayers\.(\d+)\.")  # PLaMo's are `layers.layers.0`
LARGEST_CACHE = 4e9
"""Bytes of outputs that are cached at most; they lie in a file that the system caches."""


@contextmanager
def only_supervised(model: nn.Module, positions: mx.array, length: int) -> Iterator[None]:
    """Inside, the last block does no position-wise work at other positions of its one sequence.

    positions: unique indices below `length`.
    """
    back = gather.inverse(positions, length)

    def at_positions(module: nn.Module, x: mx.array) -> mx.array:
        # No index instead of `squeeze`: its derivative is a scatter.
        chosen = cast(mx.array, gather.take(x.squeeze(0), positions, back))
        outputs = module(chosen[None]).squeeze(0)  # [positions, width]
        return cast(mx.array, gather.spread(outputs, positions, back))[None]

    block = model.layers[-1]
    with ExitStack() as changes:
        for part, name in _POSITION_WISE:
            owner = getattr(block, part, None) if part else block
            module = getattr(owner, name, None)
            # An attention that is computed example by example knows no positions of the sequence.
            if isinstance(module, nn.Module) and not isinstance(owner, Proxy):
                proxy = Proxy(module, functools.partial(at_positions, module), is_parent=True)
                changes.enter_context(replaced(owner, name, proxy))
        yield


def lowest_trained(model: nn.Module) -> int:
    """Index of the first block with something to train; 0 too where anything beside blocks has."""
    indices = []
    for name, _ in tree_flatten(model.trainable_parameters()):
        index = _LAYER.search(name)
        if index is None:
            return 0
        indices.append(int(index[1]))
    return min(indices, default=0)


def can_cache(model: nn.Module) -> bool:
    """Whether a block computes once and hands on its output alone: Gemma 4's hand on keys and values too."""
    outputs = _outputs_of(model, 0, mx.zeros((1, 1), mx.int32))
    return len(outputs) == 1 and isinstance(outputs[0], mx.array)


def _outputs_of(model: nn.Module, index: int, tokens: mx.array) -> list[Any]:
    """What block `index` gives for `tokens` [1, length], each time that it is asked."""
    blocks = split_head.blocks(model)
    block = blocks[index]
    outputs: list[Any] = []

    def noting(*values: Any, **named: Any) -> Any:
        outputs.append(block(*values, **named))
        return outputs[-1]

    with replaced_block(blocks, index, Proxy(block, noting)):
        split_head.body(model)(tokens)
    return outputs


@dataclass(frozen=True)
class ActivationCacheFile:
    """Where outputs are cached, as other processes are told of it: [tokens, width] float32."""

    path: str
    tokens: int
    width: int


class LowerOutputs:
    """Which examples have their place in the file of cached outputs, and which are there already: of
    one run, or of several on one base, which find what earlier ones stored.

    A place goes by an example's tokens, on which alone its output depends.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        """Where the file outlives a run; None where it ends with it."""
        self._starts: dict[tuple[int, ...], int] = {}
        self._filled: set[int] = set()
        self._tokens = 0
        self._block: int | None = None
        """The last untrained one, of which the file has the outputs."""
        self._is_used = False

    def slot(self, tokens: Sequence[int]) -> CacheSlot:
        """The place of an example; a new one has the next."""
        key = tuple(tokens)
        if key not in self._starts:
            self._starts[key] = self._tokens
            self._tokens += len(key)
        start = self._starts[key]
        return CacheSlot(start, start in self._filled)

    def open(self, folder: Path, block: int, width: int) -> ActivationCacheFile:
        """The file, with room for all places; in `folder` unless it is to outlive the run. What is in
        it counts as long as `block` is the last one that is not trained."""
        if self._folder is None or block != self._block:
            self._filled.clear()
        self._block, self._is_used = block, True
        file = ActivationCacheFile(
            str((self._folder or folder) / "lower_outputs"), self._tokens, width
        )
        with Path(file.path).open("ab") as stream:
            stream.truncate(4 * file.tokens * file.width)
        return file

    def unused(self) -> None:
        """Of the run to come no outputs are cached."""
        self._is_used = False

    def stored(self, examples: Iterable[Sequence[int]]) -> None:
        """The outputs of these tokens are there, if they are cached."""
        if self._is_used:
            self._filled.update(self._starts[tuple(tokens)] for tokens in examples)


class ActivationCache:
    """Outputs of the last untrained block, per example, in a file that processes share.

    An example's output is computed from it alone, so that it is the same to the last bit whenever
    and beside whatever it is computed. Who uses the file says which examples are in it already.
    """

    def __init__(self, model: nn.Module, file: ActivationCacheFile) -> None:
        self._model = model
        self._last_untrained = lowest_trained(model) - 1
        shape = (file.tokens, file.width)
        self._outputs = np.memmap(file.path, np.float32, "r+", shape=shape)

    @contextmanager
    def standing_in(self, examples: Sequence[Example]) -> Iterator[None]:
        """Inside, the lower blocks of the model give the cached outputs of these examples."""
        output = mx.array(np.concatenate([self._output(example) for example in examples])[None])
        blocks = split_head.blocks(self._model)
        proxy = Proxy(blocks[self._last_untrained], lambda *_, **__: output)
        with replaced_block(blocks, self._last_untrained, proxy):
            yield

    def _output(self, example: Example) -> NDArray[np.float32]:
        """[tokens - 1, width]; computed and stored where the file does not have it yet."""
        assert example.cache_slot is not None
        start, length = example.cache_slot.start, len(example.tokens) - 1
        stored: NDArray[np.float32] = self._outputs[start : start + length]
        if not example.cache_slot.is_filled:
            inputs = mx.array([example.tokens[:-1]])
            with concatenated_attention.separated(self._model, (length,)):
                [output] = _outputs_of(self._model, self._last_untrained, inputs)
                stored[:] = np.array(output[0])
        return stored
