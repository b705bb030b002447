"""The arrays of a model that are trained, found once.

To ask a model for them is a walk over all its modules. With 26 blocks that takes up to 5 ms, of the
70 that an update takes on a GPU, and an update needs them several times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from mlx_finetuning.mlx_trainer.model import lora
from mlx_finetuning.mlx_trainer.model.flat_arrays import ALL, Layout

_NAME = "_trained_arrays"


class TrainedArrays:
    """By name, to be read and replaced; on request as parts of one vector."""

    def __init__(self, model: nn.Module) -> None:
        arrays = dict(tree_flatten(model.trainable_parameters()))
        self._owners: dict[str, tuple[Any, Any]] = {}
        """By name: the module that has the array, and its key there."""
        for name in arrays:
            *path, key = name.split(".")
            owner: Any = model
            for part in path:
                owner = owner[int(part)] if isinstance(owner, list) else owner[part]
            self._owners[name] = owner, key
        self._are_factors = lora.are_factors(arrays)
        self._layout = Layout(arrays)
        self._vector: mx.array | None = None
        self._parts: list[mx.array] = []

    def arrays(self) -> dict[str, mx.array]:
        """The model's own, by name."""
        return {name: owner[key] for name, (owner, key) in self._owners.items()}

    def put(self, arrays: Mapping[str, mx.array]) -> None:
        """Let the model have these, by name or joined, in the place of its own; KeyError if one is missing."""
        if ALL in arrays:
            self.put_vector(arrays[ALL])
        else:
            self.put_some({name: arrays[name] for name in self._owners})

    def put_some(self, arrays: Mapping[str, mx.array]) -> None:
        """The same with some of them."""
        for name, value in arrays.items():
            owner, key = self._owners[name]
            owner[key] = value

    @contextmanager
    def given(self, arrays: Mapping[str, mx.array]) -> Iterator[None]:
        """Inside, the model computes with these; they stay in it."""
        self.put(arrays)
        yield

    def vector(self, arrays: Mapping[str, mx.array] | None = None) -> mx.array:
        """[elements] of the model's arrays, or of others with their names and shapes. Nothing is
        copied while the model has the parts of the vector that it was given last."""
        if arrays is None:
            arrays = self.arrays()
            if self._vector is not None and self._has_parts(arrays):
                return self._vector
        return self._layout.vector(arrays)

    def joined(self, arrays: Mapping[str, mx.array]) -> Mapping[str, mx.array]:
        """LoRA's factors, or what has their names and shapes, as one vector under the name `ALL`, so that
        what is done to each is done once; any other arrays as they are: all weights would be a copy
        too many."""
        if not self._are_factors or ALL in arrays:
            return arrays
        return {ALL: self.vector(arrays)}

    def parts(self, vector: mx.array, dtype: mx.Dtype | None = None) -> dict[str, mx.array]:
        """The arrays in `vector`, by name; of `dtype`, or of the types they had."""
        return self._layout.arrays(vector, dtype)

    def places(self) -> dict[str, NDArray[np.int32]]:
        """Of each array's elements in the vector, by name and in the array's shape."""
        return self._layout.places()

    def put_vector(self, vector: mx.array) -> None:
        """Let the model have the parts of `vector`."""
        arrays = self.parts(vector)
        self.put(arrays)
        self._vector, self._parts = vector, list(arrays.values())

    @property
    def size(self) -> int:
        """Elements of all."""
        return self._layout.size

    def stored(self) -> Any:
        """What has to be evaluated for the arrays to be there: they, or the vector of which they are
        parts."""
        arrays = self.arrays()
        return self._vector if self._has_parts(arrays) else arrays

    def _has_parts(self, arrays: Mapping[str, mx.array]) -> bool:
        return list(map(id, arrays.values())) == list(map(id, self._parts))


def of(model: nn.Module) -> TrainedArrays:
    """Of `model`, which keeps it until `forget`."""
    trained: TrainedArrays | None = getattr(model, _NAME, None)
    if trained is None:
        trained = TrainedArrays(model)
        setattr(model, _NAME, trained)
    return trained


def forget(model: nn.Module) -> None:
    """For what changes which arrays are trained."""
    setattr(model, _NAME, None)


def digest(model: nn.Module) -> str:
    """Of the trained arrays, to the last bit."""
    state = hashlib.sha256()
    for name, value in sorted(of(model).arrays().items()):
        state.update(name.encode() + np.array(value.astype(mx.float32)).tobytes())
    return state.hexdigest()


def frozen_fingerprint(model: nn.Module) -> float:
    """Changes when a weight that is not trained does."""
    trained = of(model).arrays()
    frozen = [value for name, value in tree_flatten(model.parameters()) if name not in trained]
    return float(sum(float(value.astype(mx.float32).sum().item()) for value in frozen))
