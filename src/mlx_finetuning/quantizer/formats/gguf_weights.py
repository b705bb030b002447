"""The weights of a GGUF base: as float32 rows in the order of a Hugging Face folder, and as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning.errors import WeightsUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.utils import gguf_reader
from mlx_finetuning.utils.gguf_base import GgufBase
from mlx_finetuning.utils.gguf_reader import RowIndex, StoredTensor

FLOATS = {Type.F32: "F32", Type.F16: "F16", Type.BF16: "BF16"}


@dataclass(frozen=True)
class GgufWeight:
    """One weight, kept in the file's own type, with its rows in another order there or not."""

    tensor: StoredTensor
    order: NDArray[np.intp] | None
    """Row i of the weight is row `order[i]` of the tensor."""
    added: np.float32

    @property
    def kind(self) -> str:
        """Of values that are quantized BF16, the type in which such models are trained."""
        return FLOATS.get(self.tensor.kind, "BF16")

    @property
    def shape(self) -> tuple[int, ...]:
        """[rows, columns] or [n]"""
        return self.tensor.shape

    @property
    def stored_type(self) -> Type:
        """The type of `blocks`."""
        return self.tensor.kind

    def rows(self, which: RowIndex) -> NDArray[np.float32]:
        """The chosen rows (elements, for a vector), dequantized."""
        if len(self.shape) == 1:
            values = self.tensor.values().reshape(-1)[which]
        else:
            values = self.tensor.values(self._of_tensor(which))
        return np.ascontiguousarray(values - self.added if self.added else values)

    def blocks(self, which: RowIndex) -> NDArray[np.uint8]:
        """The chosen rows' bytes in the file, [rows, bytes]."""
        if len(self.shape) == 1:
            return self.tensor.data
        return np.ascontiguousarray(self.tensor.data[self._of_tensor(which)])

    def _of_tensor(self, which: RowIndex) -> RowIndex:
        return which if self.order is None else self.order[which]


def open_base(base: GgufBase) -> dict[str, GgufWeight]:
    """By the names of a Hugging Face folder. Raises BaseFileChanged, GgufUnreadable, WeightsUnreadable."""
    base.require_in_place()
    tensors = gguf_reader.read_tensors(base.file)
    to_weight = [np.argsort(order) for order in base.orders]
    missing = [stored.tensor for stored in base.weights.values() if stored.tensor not in tensors]
    if missing:
        raise WeightsUnreadable(
            path=base.path, reason=_("重み {missing} がありません。").format(missing=missing[0])
        )
    return {
        name: GgufWeight(
            tensors[stored.tensor],
            None if stored.order < 0 else to_weight[stored.order],
            np.float32(stored.added),
        )
        for name, stored in base.weights.items()
    }
