"""Which type each tensor gets: llama.cpp's recipes as pure functions.

Covers the types of `config.QUANTIZATIONS` for dense models; mixtures of experts and importance
matrices are not covered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from mlx_finetuning.quantizer import ggml

BASE = {
    "F32": Type.F32,
    "F16": Type.F16,
    "BF16": Type.BF16,
    "Q8_0": Type.Q8_0,
    "Q6_K": Type.Q6_K,
    "Q5_K_M": Type.Q5_K,
    "Q4_K_M": Type.Q4_K,
}
FILE_TYPE = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q6_K": LlamaFileType.MOSTLY_Q6_K,
    "Q5_K_M": LlamaFileType.MOSTLY_Q5_K_M,
    "Q4_K_M": LlamaFileType.MOSTLY_Q4_K_M,
}
UNQUANTIZED = {Type.F32, Type.F16, Type.BF16}

NARROW_FALLBACK = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""For columns that are no multiple of 256."""


def more_bits(layer: int, layers: int) -> bool:
    """The layers to which the _M recipes give more bits: first and last eighth, then every third."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


@dataclass(frozen=True)
class Outline:
    """What of a whole model decides on the type of one tensor."""

    layers: int
    tied: bool
    """The token embedding is also the output head, and takes the head's type."""
    grouped: bool
    """Several query heads share a key head."""


def _value_type(base: Type, layer: int, model: Outline) -> Type:
    if more_bits(layer, model.layers):
        return Type.Q6_K
    # llama.cpp gives the small attn_v of 70B models more bits: 80 layers, grouped heads.
    if base == Type.Q4_K and model.layers == 80 and model.grouped:
        return Type.Q5_K
    return base


def _down_type(base: Type, layer: int, model: Outline) -> Type:
    return Type.Q6_K if more_bits(layer, model.layers) else base


Rule = Callable[[Type, int, Outline], Type]
MIXED: dict[str, dict[str, Rule]] = {
    quant: {"attn_v.weight": _value_type, "ffn_down.weight": _down_type}
    for quant in ("Q4_K_M", "Q5_K_M")
}


def tensor_type(name: str, shape: tuple[int, ...], quant: str, model: Outline) -> Type:
    """The type of the GGUF tensor `name`; `shape` is [rows, columns] or [n]."""
    if _stays_f32(name, shape):
        return Type.F32
    base = BASE[quant]
    if base in UNQUANTIZED:
        return base
    return _fitting(_wanted(name, shape[-1], base, quant, model), shape[-1])


def _stays_f32(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) < 2 or not name.endswith(".weight") or name.endswith("_norm.weight")


def _wanted(name: str, columns: int, base: Type, quant: str, model: Outline) -> Type:
    if name == "output.weight" or (model.tied and name == "token_embd.weight"):
        narrow = columns % ggml.block_size(base) != 0
        return Type.Q8_0 if narrow or base == Type.Q8_0 else Type.Q6_K
    if not name.startswith("blk."):
        return base
    _, layer, role = name.split(".", 2)
    rule = MIXED.get(quant, {}).get(role)
    return rule(base, int(layer), model) if rule else base


def _fitting(kind: Type, columns: int) -> Type:
    if columns % ggml.block_size(kind) == 0:
        return kind
    kind = NARROW_FALLBACK.get(kind, kind)
    return kind if columns % ggml.block_size(kind) == 0 else Type.F16
