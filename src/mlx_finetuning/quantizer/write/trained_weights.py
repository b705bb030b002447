"""What a run changed in its base model: LoRA, DoRA or whole weights, in mlx-lm's layout.

Reads `adapters.safetensors` and `adapter_config.json`. Every change works on any choice of a
weight's rows, so that nothing is ever fused as a whole.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import AdapterUnusable, WeightsUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families.family import mlx_names
from mlx_finetuning.quantizer.formats import experts, safetensors
from mlx_finetuning.quantizer.formats.packed import Weights
from mlx_finetuning.quantizer.formats.safetensors import Tensor
from mlx_finetuning.utils.gguf_reader import RowIndex

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"
KINDS = ("lora", "dora", "full")
EVERYTHING = slice(None)

TILE_ROWS = 16
SMALL_PRODUCT = 1 << 17
"""Multiplications that BLAS does in the calling thread. Beyond, its own threads would fight with
those that quantize: three times slower on two cores."""


class Change(Protocol):
    """What becomes of one weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it changes."""
        ...

    def apply(self, values: NDArray[np.float32], which: RowIndex) -> NDArray[np.float32]:
        """values: the base's chosen rows, which may be overwritten."""
        ...


@dataclass(frozen=True)
class Delta:
    """Added to a weight W [out, in]: scale * (a @ b).T."""

    a: NDArray[np.float32]
    """[in, rank]"""
    b: NDArray[np.float32]
    """[rank, out]"""
    scale: float
    shares: tuple[slice, ...] = (slice(None),)
    """Of a change that is several side by side, each one's own factors."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[out, in]"""
        return self.b.shape[1], self.a.shape[0]

    @property
    def rank(self) -> int:
        """Of each change, as it was trained."""
        return max(len(range(self.a.shape[1])[share]) for share in self.shares)

    def apply(self, values: NDArray[np.float32], which: RowIndex) -> NDArray[np.float32]:
        """In tiles that BLAS multiplies without threads of its own."""
        chosen = self.b[:, which].T * np.float32(self.scale)  # [rows, rank]
        columns = max(1, SMALL_PRODUCT // (TILE_ROWS * self.a.shape[1]))
        result = values if values.flags.writeable else values.copy()
        for top in range(0, len(chosen), TILE_ROWS):
            rows = slice(top, top + TILE_ROWS)
            for left in range(0, self.a.shape[0], columns):
                part = slice(left, left + columns)
                result[rows, part] += chosen[rows] @ self.a[part].T
        return result


@dataclass(frozen=True)
class ExpertDelta:
    """Added to every expert's weight W[e] [out, in] of a stacked one: scale * b[e] @ a[e]."""

    a: NDArray[np.float32]
    """[experts, rank, in]"""
    b: NDArray[np.float32]
    """[experts, out, rank]"""
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """[experts, out, in]"""
        return self.b.shape[0], self.b.shape[1], self.a.shape[2]

    @property
    def rank(self) -> int:
        """Of each expert's change."""
        return int(self.a.shape[1])

    def of(self, expert: int) -> Delta:
        """The change of one expert's weight."""
        return Delta(self.a[expert].T, self.b[expert].T, self.scale)

    def apply(self, values: NDArray[np.float32], which: RowIndex) -> NDArray[np.float32]:
        """Expert by expert."""
        count, rows, __ = self.shape
        result = values if values.flags.writeable else values.copy()
        for expert, inner, chosen in experts.by_expert(which, count, rows):
            result[chosen] = self.of(expert).apply(result[chosen], inner)
        return result


@dataclass(frozen=True)
class DoraDelta:
    """DoRA: the changed weight's rows, brought to learned lengths."""

    delta: Delta
    lengths: NDArray[np.float32]
    """[out]"""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.delta.shape

    def apply(self, values: NDArray[np.float32], which: RowIndex) -> NDArray[np.float32]:
        changed = self.delta.apply(values, which)  # [rows, in]
        changed *= (self.lengths[which] / np.linalg.norm(changed, axis=1))[:, None]
        return changed


@dataclass(frozen=True)
class Replacement:
    """Full tuning: a weight of its own."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    def apply(self, values: NDArray[np.float32], which: RowIndex) -> NDArray[np.float32]:
        stacked = experts.flat(self.tensor) if len(self.shape) == 3 else self.tensor
        return stacked.rows(which)

    def of(self, expert: int) -> Replacement:
        """The new weight of one expert."""
        tensor = self.tensor
        return Replacement(Tensor(tensor.name, tensor.kind, tensor.stored[expert]))


@dataclass(frozen=True)
class SideBySide:
    """Changes of equal shares of a weight's rows; None changes nothing."""

    changes: tuple[Change | None, ...]
    shape: tuple[int, ...]

    def apply(self, values: NDArray[np.float32], which: RowIndex) -> NDArray[np.float32]:
        """Share by share."""
        size = self.shape[0] // len(self.changes)
        rows = np.arange(self.shape[0])[which]
        result = values if values.flags.writeable else values.copy()
        for share, change in enumerate(self.changes):
            chosen = np.flatnonzero(rows // size == share)
            if change is not None and chosen.size:
                result[chosen] = change.apply(result[chosen], rows[chosen] - share * size)
        return result


@dataclass(frozen=True)
class Adapter:
    """All that a run changed."""

    kind: str
    """lora, dora or full."""
    changes: Mapping[str, Change]
    """Name of the base's tensor (`model.layers.0.self_attn.q_proj.weight`) → what becomes of it."""

    @property
    def deltas(self) -> dict[str, Delta | ExpertDelta]:
        """The changes that are plain LoRA."""
        return {
            name: change
            for name, change in self.changes.items()
            if isinstance(change, Delta | ExpertDelta)
        }


NOTHING = Adapter("lora", {})


def read(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises AdapterUnusable."""
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config.get("fine_tune_type", "lora")
        scale = 1.0 if kind == "full" else float(config["lora_parameters"]["scale"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterUnusable(
            path=str(folder), reason=_("{config} を読めません。").format(config=CONFIG)
        ) from error
    if kind not in KINDS:
        reason = _("種類 {kind} は書き出せません（書き出せるのは {kinds}）。").format(
            kind=kind, kinds=_("、").join(KINDS)
        )
        raise AdapterUnusable(path=str(folder), reason=reason)
    try:
        tensors = safetensors.open_files([folder / WEIGHTS])
    except WeightsUnreadable as error:
        raise AdapterUnusable(path=str(folder), reason=error.data["reason"]) from error
    if kind == "full":
        return Adapter(kind, {name: Replacement(tensor) for name, tensor in tensors.items()})
    halves = ("lora_a", "lora_b", "m") if kind == "dora" else ("lora_a", "lora_b")
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    expected = {f"{module}.{half}" for module in modules for half in halves}
    if not tensors or expected != set(tensors):
        odd = sorted(expected ^ set(tensors))[:1] or [_("(空)")]
        reason = _("{halves} の組になっていない重みがあります: {odd}").format(
            halves=_("、").join(halves), odd=odd[0]
        )
        raise AdapterUnusable(path=str(folder), reason=reason)
    changes: dict[str, Change] = {}
    for module in modules:
        delta = _delta(folder, tensors, module, scale)
        if kind == "dora" and isinstance(delta, Delta):
            changes[f"{module}.weight"] = DoraDelta(delta, tensors[f"{module}.m"].rows(EVERYTHING))
        else:
            changes[f"{module}.weight"] = delta
    return Adapter(kind, changes)


def _delta(
    folder: Path, tensors: dict[str, Tensor], module: str, scale: float
) -> Delta | ExpertDelta:
    a = tensors[f"{module}.lora_a"].rows(EVERYTHING)
    b = tensors[f"{module}.lora_b"].rows(EVERYTHING)
    if a.ndim == b.ndim == 3 and (a.shape[0], a.shape[1]) == (b.shape[0], b.shape[2]):
        return ExpertDelta(a, b, scale)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        reason = _("{module} の行列の形が合いません（{shape} と {other}）。").format(
            module=module, shape=a.shape, other=b.shape
        )
        raise AdapterUnusable(path=str(folder), reason=reason)
    # An embedding is looked up, not multiplied: mlx-lm's factors are the other way round there.
    return Delta(b.T, a.T, scale) if "embed" in module else Delta(a, b, scale)


Shapes = Mapping[str, tuple[int, ...]]
"""Name of a weight of the base → its shape."""


def read_for(folder: Path, base: Mapping[str, Weights]) -> Adapter:
    """The adapter in `folder`, fitted to the weights of its base. Raises AdapterUnusable."""
    return fitted(folder, read(folder), {name: weight.shape for name, weight in base.items()})


def fitted(folder: Path, adapter: Adapter, shapes: Shapes) -> Adapter:
    """The adapter under the names of the base's weights, each of the shape of its change.

    Raises AdapterUnusable.
    """
    changes: dict[str, Change] = {}
    for stored_name, change in adapter.changes.items():
        # mlx-lm names the text part of models that also see unlike their folders do.
        rest = stored_name.removeprefix("language_model.model.")
        head = stored_name.removeprefix("language_model.")
        names = (stored_name, f"model.language_model.{rest}", f"model.{rest}", head)
        name = next((name for name in names if name in shapes), stored_name)
        own: dict[str, Change] = {}
        if name not in shapes and isinstance(change, ExpertDelta | Replacement):
            # mlx-lm stacks experts; many folders hold one weight for each.
            own = {
                expert_name: change.of(expert)
                for expert in range(change.shape[0])
                if (expert_name := experts.own_name(name, expert)) in shapes
            }
        changes |= own or {name: change}
    changes = _side_by_side(changes, shapes)
    for name, change in changes.items():
        shape = shapes.get(name)
        is_embedding_dora = isinstance(change, DoraDelta) and "embed" in name
        if shape != change.shape or is_embedding_dora:
            reason = _("{name} がベースモデルに合いません（{shape} と {other}）。").format(
                name=name, shape=change.shape, other=shape
            )
            raise AdapterUnusable(path=str(folder), reason=reason)
    return Adapter(adapter.kind, changes)


def _side_by_side(changes: Mapping[str, Change], shapes: Shapes) -> dict[str, Change]:
    """Changes of what the folder holds as one weight and mlx-lm as several, as one."""
    joined = dict(changes)
    for name, shape in shapes.items():
        part_names = mlx_names(name)
        if part_names == (name,):
            continue
        parts = tuple(joined.pop(part, None) for part in part_names)
        present = [part for part in parts if part is not None]
        part_shape = (shape[0] // len(parts), *shape[1:])
        if all(part.shape == part_shape for part in present):
            if present:
                joined[name] = _joined(parts, shape)
        else:
            # One that does not fit is complained about under its own name.
            joined |= {
                n: part for n, part in zip(part_names, parts, strict=True) if part is not None
            }
    return joined


def _joined(parts: tuple[Change | None, ...], shape: tuple[int, ...]) -> Change:
    """LoRA of several weights as LoRA of one: factors beside each other, zeros elsewhere in b."""
    deltas = [part for part in parts if isinstance(part, Delta)]
    if len(deltas) < sum(part is not None for part in parts):
        return SideBySide(parts, shape)
    size = shape[0] // len(parts)
    ranks = [part.a.shape[1] if isinstance(part, Delta) else 0 for part in parts]
    ends = np.cumsum([0, *ranks])
    b = np.zeros((ends[-1], shape[0]), np.float32)  # [all ranks, out]
    shares = tuple(slice(int(start), int(end)) for start, end in itertools.pairwise(ends))
    for number, part in enumerate(parts):
        if isinstance(part, Delta):
            b[shares[number], number * size : (number + 1) * size] = part.b
    a = np.concatenate([delta.a for delta in deltas], axis=1)  # [in, all ranks]
    return Delta(a, b, deltas[0].scale, shares)
