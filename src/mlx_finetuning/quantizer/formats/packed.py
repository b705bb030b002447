"""Weights as MLX quantizes them (affine, 2 to 8 bits, or MXFP4), read as float32 rows.

A packed weight is three tensors: `weight` (bits in uint32), `scales` and `biases`; a value is
scale * q + bias, computed in float32 as MLX's matrix products do. MXFP4 has no biases. Rows of
stacked experts are counted through. Other modes are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import ModelSettingUnsupported, WeightsUnreadable
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.formats import experts, gguf_weights, safetensors
from mlx_finetuning.quantizer.formats.safetensors import Tensor
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.utils.gguf_reader import RowIndex

BITS = (2, 3, 4, 5, 6, 8)


class Weights(Protocol):
    """One weight of a base model, however it is stored."""

    @property
    def kind(self) -> str:
        """The type of its values, F32, F16 or BF16; of its scales where it is packed."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """[rows, columns], [n], or [experts, rows, columns]."""
        ...

    def rows(self, which: RowIndex) -> NDArray[np.float32]:
        """The chosen rows (elements, for a vector) as C-contiguous float32; those of stacked
        experts, [experts, rows, columns], are counted through."""
        ...


@dataclass(frozen=True)
class Packed:
    """[rows, columns] or [experts, rows, columns], quantized in groups of columns."""

    weight: Tensor
    scales: Tensor
    biases: Tensor
    bits: int

    @property
    def kind(self) -> str:
        """The type of its scales."""
        return self.scales.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its values, unpacked."""
        *rows, words = self.weight.shape
        return *rows, words * 32 // self.bits

    def rows(self, which: RowIndex) -> NDArray[np.float32]:
        """scale * level + bias, as MLX computes it: [rows, columns]."""
        scales = experts.flat(self.scales).rows(which)
        biases = experts.flat(self.biases).rows(which)
        levels = _levels(experts.flat(self.weight).stored[which], self.bits)
        grouped = levels.reshape(*scales.shape, -1).astype(np.float32)
        grouped *= scales[..., None]
        grouped += biases[..., None]
        return grouped.reshape(levels.shape)


def _levels(words: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Unpack [rows, words] uint32 to [rows, columns]; the first column is in the lowest bits."""
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return data
    if bits == 4:
        return np.stack([data & 15, data >> 4], axis=-1).reshape(len(data), -1)
    single = np.unpackbits(data, axis=-1, bitorder="little").reshape(len(data), -1, bits)
    return np.packbits(single, axis=-1, bitorder="little")[..., 0]


def open_base(folder: Path, config: Mapping[str, Any]) -> dict[str, Weights]:
    """A model's weights, quantized by MLX, in a GGUF file or not, each under the name of its `weight`.

    Raises WeightsUnreadable, ModelSettingUnsupported; of a GGUF base BaseFileChanged, GgufUnreadable.
    """
    base = gguf_base.read(folder)
    if base is not None:
        return {**gguf_weights.open_base(base)}
    tensors = safetensors.open_model(folder)
    settings: Mapping[str, Any] = config.get("quantization") or {}
    if config.get("quantization") is None and config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "")
        if method != "mxfp4" or config.get("model_type") != "gpt_oss":
            raise ModelSettingUnsupported(
                setting="quantization_config",
                value=str(method),
                supported=_("MLXの量子化、または量子化なし"),
            )
        return {**experts.from_gpt_oss(tensors)}
    weights: dict[str, Weights] = {}
    for name, tensor in tensors.items():
        module, __, part = name.rpartition(".")
        is_packed = f"{module}.scales" in tensors
        if is_packed and part in ("scales", "biases"):
            continue
        if tensor.kind in ("U32", "U8") and not is_packed:
            reason = _("{name} の型 {kind} は扱えません。").format(name=name, kind=tensor.kind)
            raise WeightsUnreadable(path=str(folder), reason=reason)
        if is_packed and part == "weight":
            weights[name] = _packed(folder, tensors, module, settings)
        else:
            # A convolution over time alone has an axis of one, and is no stack.
            is_stacked = len(tensor.shape) == 3 and 1 not in tensor.shape[1:]
            weights[name] = experts.Stacked(tensor) if is_stacked else tensor
    return weights


def _packed(
    folder: Path, tensors: dict[str, Tensor], module: str, settings: Mapping[str, Any]
) -> Weights:
    own = settings.get(module)
    own = own if isinstance(own, dict) else {}
    bits = own.get("bits", settings.get("bits"))
    mode = own.get("mode", settings.get("mode", "affine"))
    if mode == "mxfp4" and bits == 4:
        four_bit = experts.mxfp4(tensors[f"{module}.weight"], tensors[f"{module}.scales"])
        if four_bit is None:
            reason = _("{module} の量子化の形が config.json と合いません。").format(module=module)
            raise WeightsUnreadable(path=str(folder), reason=reason)
        return four_bit
    if mode != "affine" or bits not in BITS:
        raise ModelSettingUnsupported(
            setting="quantization",
            value=_("{mode} {bits}ビット").format(mode=mode, bits=bits),
            supported=_("affine 2〜8ビット、mxfp4"),
        )
    parts = (tensors[f"{module}.weight"], tensors[f"{module}.scales"])
    packed = Packed(*parts, tensors.get(f"{module}.biases", parts[1]), bits)
    group = own.get("group_size", settings.get("group_size"))
    expected = (*packed.shape[:-1], packed.shape[-1] // group if group else 0)
    if packed.biases is packed.scales or packed.scales.shape != expected:
        reason = _("{module} の量子化の形が config.json と合いません。").format(module=module)
        raise WeightsUnreadable(path=str(folder), reason=reason)
    return packed
