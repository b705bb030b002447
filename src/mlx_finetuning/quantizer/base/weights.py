"""Which tensor of a GGUF file is which weight of a model's folder.

By the same table of names and the same orders of rows by which the export writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlx_finetuning.errors import GgufUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.base.refusal import Unusable
from mlx_finetuning.quantizer.families import family, registry
from mlx_finetuning.quantizer.families.family import Config
from mlx_finetuning.utils.gguf_base import StoredAs
from mlx_finetuning.utils.gguf_reader import Gguf


@dataclass(frozen=True)
class Placement:
    """Where the weights lie."""

    orders: tuple[tuple[int, ...], ...]
    """The different orders of rows."""
    weights: Mapping[str, StoredAs]
    """By the folder's names."""


def placement(file: Gguf, config: Config) -> Placement:
    """Every weight of the model and every tensor of the file, matched. Raises Unusable."""
    kind = registry.of(config)
    required = kind.required(config)
    biases = {name.replace(".weight", ".bias") for name in required}
    mapped, __ = registry.mapping(kind, config, sorted(required | biases))
    orders: dict[tuple[int, ...], int] = {}
    weights: dict[str, StoredAs] = {}
    for tensor in mapped:
        if tensor.name not in file.tensors:
            if tensor.source in required:
                raise Unusable(_("重み {name} がファイルにありません。").format(name=tensor.name))
            continue
        number, rows = -1, tensor.form.rows
        if rows is not None:
            number = orders.setdefault(tuple(rows.tolist()), len(orders))
            if file.tensors[tensor.name].shape[0] != len(rows):
                raise Unusable(
                    _("重み {name} の行の数が、設定と合いません。").format(name=tensor.name)
                )
        added = 1.0 if tensor.form.formula is family.plus_one else 0.0
        weights[tensor.source] = StoredAs(tensor.name, number, added)
    known = {stored.tensor for stored in weights.values()} | set(kind.computed_tensors(config))
    unknown = sorted(set(file.tensors) - known)
    if unknown:
        raise Unusable(_("知らない重みがあります: {names}").format(names=_("、").join(unknown[:3])))
    for name in known & set(file.tensors):
        try:
            file.tensors[name].values(np.arange(1))
        except GgufUnreadable as error:
            raise Unusable(
                _("重み {name} の{reason}").format(name=name, reason=error.data["reason"])
            ) from error
    return Placement(tuple(orders), weights)
