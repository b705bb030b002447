"""Hundreds of small arrays as one vector, so that what is done to all is one operation.

An adapter has two small arrays per linear layer. What is done to each alike (casting, adding,
clipping, an optimizer's step) would otherwise cost a GPU's launch, or on the CPU a task of MLX's, per
array and operation. Putting a vector
together costs one per array too, so the trained arrays are parts of one (`trainable`).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from mlx_finetuning.mlx_trainer.kernels import backend

ALL = "all"
"""Name of a vector that stands for the trained arrays, where a dictionary of arrays is expected."""


class Layout:
    """Where each array of a tree lies in the vector."""

    def __init__(self, tree: Any) -> None:
        arrays = tree_flatten(tree)
        self._names = [name for name, _ in arrays]
        self._shapes = [value.shape for _, value in arrays]
        self._dtypes = [value.dtype for _, value in arrays]
        self._ends: list[int] = list(itertools.accumulate(map(math.prod, self._shapes)))

    @property
    def size(self) -> int:
        """Elements of all arrays."""
        return self._ends[-1]

    def places(self) -> dict[str, NDArray[np.int32]]:
        """By name, where in the vector each element of an array lies, in the array's shape."""
        parts = np.split(np.arange(self._ends[-1], dtype=np.int32), self._ends[:-1])
        shaped = zip(parts, self._shapes, strict=True)
        return dict(zip(self._names, (part.reshape(shape) for part, shape in shaped), strict=True))

    def vector(self, tree: Any) -> mx.array:
        """[elements] of a tree of this layout."""
        arrays = dict(tree_flatten(tree))
        return backend.concatenated([arrays[name] for name in self._names])

    def tree(self, vector: mx.array, dtype: mx.Dtype | None = None) -> Any:
        """The arrays in `vector`; of `dtype`, or of the types they had."""
        return tree_unflatten(list(self.arrays(vector, dtype).items()))

    def arrays(self, vector: mx.array, dtype: mx.Dtype | None = None) -> dict[str, mx.array]:
        """The same by name."""
        parts = mx.split(vector, self._ends[:-1])
        return {
            name: part.reshape(shape).astype(dtype or own)
            for name, part, shape, own in zip(
                self._names, parts, self._shapes, self._dtypes, strict=True
            )
        }
