"""Weights of mixtures of experts: one for all experts, however a folder stores them.

mlx-lm stacks the experts' matrices, [experts, rows, columns], and so does GGUF; Hugging Face keeps
one per expert, or gpt-oss's blocks of four-bit numbers. A stacked weight's rows are counted through
all experts, so that blocks of rows are read, changed and quantized as those of any other weight.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from mlx_finetuning.quantizer.formats.safetensors import Tensor
from mlx_finetuning.utils.gguf_reader import RowIndex

_OWN = re.compile(r"(.+\.mlp\.)experts\.(\d+)\.(\w+\.weight)")
STACK = "switch_mlp"
"""What mlx-lm calls the experts of most classes."""


def split_name(name: str) -> tuple[str, int] | None:
    """Of one expert's weight: mlx-lm's name of all of them, and the expert's number."""
    match = _OWN.fullmatch(name)
    return (f"{match[1]}{STACK}.{match[3]}", int(match[2])) if match else None


def is_router(name: str) -> bool:
    """Whether a weight chooses among experts."""
    return name.endswith((".mlp.gate.weight", ".mlp.router.weight"))


def own_name(stacked: str, expert: int) -> str:
    """The inverse of `split_name`."""
    return stacked.replace(f".{STACK}.", f".experts.{expert}.")


def grouped(names: Iterable[str], experts: int) -> dict[str, tuple[str, ...]]:
    """Each weight, in mlx-lm's name, → the names under which it lies in the folder.

    Experts of whom some are missing stay alone.
    """
    groups: dict[str, dict[int, str]] = {}
    single: dict[str, tuple[str, ...]] = {}
    for name in names:
        split = split_name(name)
        if split is None:
            single[name] = (name,)
        else:
            stacked, expert = split
            groups.setdefault(stacked, {})[expert] = name
    for name, members in groups.items():
        if members.keys() == set(range(experts)):
            single[name] = tuple(members[number] for number in range(experts))
        else:
            single |= {member: (member,) for member in members.values()}
    return single


def by_expert(
    which: RowIndex, experts: int, rows: int
) -> list[tuple[int, NDArray[np.intp], slice]]:
    """Chosen rows of a stacked weight as runs within one expert.

    Of each: the expert, its rows, and which of the chosen rows they are.
    """
    chosen = np.arange(experts * rows)[which]
    owner, inner = np.divmod(chosen, rows)
    ends = [*(np.flatnonzero(np.diff(owner)) + 1), len(chosen)]
    starts = [0, *ends[:-1]]
    return [
        (int(owner[start]), inner[start:end], slice(start, end))
        for start, end in zip(starts, ends, strict=True)
    ]


def joined(
    parts: Sequence[Callable[[RowIndex], NDArray[np.float32]]], rows: int
) -> Callable[[RowIndex], NDArray[np.float32]]:
    """Reads a stacked weight from readers of single experts, each of `rows` rows."""

    def read(which: RowIndex) -> NDArray[np.float32]:
        runs = by_expert(which, len(parts), rows)
        return np.concatenate([parts[expert](inner) for expert, inner, _ in runs])

    return read


@dataclass(frozen=True)
class Stacked:
    """A tensor of all experts, [experts, rows, columns]."""

    tensor: Tensor

    @property
    def kind(self) -> str:
        """The type of its values."""
        return self.tensor.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """[experts, rows, columns]"""
        return self.tensor.shape

    def rows(self, which: RowIndex) -> NDArray[np.float32]:
        """The chosen rows, counted through all experts: [rows, columns]."""
        return flat(self.tensor).rows(which)


def flat(tensor: Tensor) -> Tensor:
    """All but the last axis as one."""
    return Tensor(tensor.name, tensor.kind, tensor.stored.reshape(-1, tensor.shape[-1]))


# --- MXFP4 -------------------------------------------------------------------------------

GROUP = 32
"""Columns that share a scale."""
_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_FP4 = np.concatenate([_VALUES, -_VALUES])
_BIAS = 127


@dataclass(frozen=True)
class MxFp4:
    """Four-bit floats with a power of two per 32 columns (OCP Microscaling Formats 1.0).

    The numbers lie two to a byte, the first in the lower half, in Hugging Face's folders as in
    mlx-lm's; in GGUF a scale comes before its sixteen bytes, each with columns i and i + 16.
    """

    levels: NDArray[np.uint8]
    """[rows of all experts, columns / 2]"""
    scales: NDArray[np.uint8]
    """[rows of all experts, columns / 32]: the exponents, plus 127."""
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """BF16, which holds every value exactly."""
        return "BF16"

    @property
    def stored_type(self) -> Type:
        """The type of `blocks`."""
        return Type.MXFP4

    def rows(self, which: RowIndex) -> NDArray[np.float32]:
        """The chosen rows, counted through all experts: [rows, columns]."""
        values = _FP4[self._unpacked(which)]
        exponents = self.scales[which].astype(np.int32)[..., None] - _BIAS
        scaled: NDArray[np.float32] = np.ldexp(values, exponents)  # [rows, groups, 32]
        return scaled.reshape(len(scaled), -1)

    def blocks(self, which: RowIndex) -> NDArray[np.uint8]:
        """The rows in GGUF's form, to the last bit, [rows, bytes]."""
        levels = self._unpacked(which)
        half = GROUP // 2
        packed = levels[..., :half] | levels[..., half:] << 4
        whole = np.concatenate([self.scales[which][..., None], packed], axis=-1)
        return np.ascontiguousarray(whole.reshape(len(whole), -1))

    def _unpacked(self, which: RowIndex) -> NDArray[np.uint8]:
        """[rows, groups, 32]"""
        data = np.ascontiguousarray(self.levels[which])
        pairs = np.stack([data & 15, data >> 4], axis=-1)
        return pairs.reshape(len(data), -1, GROUP)


def mxfp4(weight: Tensor, scales: Tensor) -> MxFp4 | None:
    """mlx-lm's form: `weight` holds eight numbers to a word. None where the two do not fit."""
    shape = (*weight.shape[:-1], weight.shape[-1] * 8)
    fit = scales.shape == (*shape[:-1], shape[-1] // GROUP)
    if (weight.kind, scales.kind) != ("U32", "U8") or not fit:
        return None
    words = flat(weight).stored.view(np.uint8)
    return MxFp4(words, flat(scales).stored, shape)


def from_gpt_oss(tensors: Mapping[str, Tensor]) -> dict[str, MxFp4 | Tensor | Stacked]:
    """The weights of a Hugging Face folder of gpt-oss, under mlx-lm's names.

    Rows of gate and up lie in turns there. Nothing is read or copied. Blocks without scales that
    fit keep their own name, which fits nowhere.
    """
    weights: dict[str, MxFp4 | Tensor | Stacked] = {}
    for name, tensor in tensors.items():
        base = name.removesuffix("_blocks")
        scales = tensors.get(f"{base}_scales")
        are_whole = scales is not None and scales.shape == tensor.shape[:3]
        if name != base and scales is not None and are_whole and tensor.shape[3:] == (GROUP // 2,):
            count, rows, groups, half = tensor.shape
            levels = tensor.stored.reshape(count * rows, groups * half)
            exponents = scales.stored.reshape(count * rows, groups)
            for part, own, turns in _projections(base):
                shape = (count, rows // turns, groups * GROUP)
                weights[f"{part}.weight"] = MxFp4(levels[own], exponents[own], shape)
        elif name.endswith("_proj_bias"):
            for part, own, _ in _projections(name.removesuffix("_bias")):
                own_bias = Tensor(f"{part}.bias", tensor.kind, tensor.stored[:, own])
                weights[own_bias.name] = own_bias
        elif not name.endswith("_scales"):
            weights[name] = tensor
    return weights


def _projections(base: str) -> list[tuple[str, slice, int]]:
    """Of a stored weight: the modules in it, their rows, and how many take turns."""
    start, _, last = base.rpartition(".")
    if last != "gate_up_proj":
        return [(base, slice(None), 1)]
    return [
        (f"{start}.gate_proj", slice(0, None, 2), 2),
        (f"{start}.up_proj", slice(1, None, 2), 2),
    ]
