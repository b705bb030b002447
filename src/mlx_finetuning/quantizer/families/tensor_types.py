"""Which type each tensor gets: llama.cpp's choices as pure functions.

Covers the types of `config.QUANTIZATIONS`, for dense models and mixtures of experts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from mlx_finetuning.config import QUANTIZATIONS
from mlx_finetuning.quantizer.llama_cpp import ggml

BASE = {name: Type[re.sub("_[SML]$", "", name)] for name in QUANTIZATIONS}
"""The type of most tensors of a file: Q4_K of Q4_K_M."""
FILE_TYPE = {
    "F32": LlamaFileType.ALL_F32,
    **{name: LlamaFileType[f"MOSTLY_{name}"] for name in BASE if name != "F32"},
}
UNQUANTIZED = {Type.F32, Type.F16, Type.BF16}

NARROW_FALLBACK = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ4_XS: Type.IQ4_NL,
}
"""For columns that are no multiple of 256."""


@dataclass(frozen=True)
class Outline:
    """What of a whole model decides on the type of one tensor."""

    layers: int
    tied: bool
    """The token embedding is also the output head, and takes the head's type."""
    sharing: int
    """Query heads per key head."""
    is_70b: bool = False
    """llama.cpp gives the small attn_v of these models more bits."""
    experts: int = 0
    has_importance: bool = False
    value_layers: tuple[int, ...] = ()
    """The layers that have attention values of their own; none named: all."""


def value_layers(names: Iterable[str]) -> tuple[int, ...]:
    """Of a file's tensors, the layers that have attention values of their own."""
    values = [f".{role}.weight" for role in VALUES]
    # A bias is no value tensor, though it has the name of one.
    return tuple(int(name.split(".")[1]) for name in names if name.endswith(tuple(values)))


def more_bits(layer: int, layers: int) -> bool:
    """The layers to which the _M recipes give more bits: first and last eighth, then every third."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


# --- rules -------------------------------------------------------------------------------

Rule = Callable[[int, Outline], Type]
"""The layer → the type of one of its tensors."""


def _always(kind: Type) -> Rule:
    return lambda layer, model: kind


def _first(count: Callable[[Outline], int], kind: Type, rest: Type) -> Rule:
    return lambda layer, model: kind if layer < count(model) else rest


def _more(kind: Type, rest: Type) -> Rule:
    return lambda layer, model: kind if more_bits(layer, model.layers) else rest


def _shared(kind: Type, rest: Type) -> Rule:
    return lambda layer, model: kind if model.sharing >= 4 else rest


RULES: dict[str, dict[str, Rule]] = {
    "Q5_K_M": {
        "attn_v": _more(Type.Q6_K, Type.Q5_K),
        "ffn_down": _more(Type.Q6_K, Type.Q5_K),
    },
    "Q4_K_M": {
        "attn_v": _more(Type.Q6_K, Type.Q4_K),
        "ffn_down": _more(Type.Q6_K, Type.Q4_K),
    },
    "Q4_K_S": {
        "attn_v": _first(lambda model: 4, Type.Q5_K, Type.Q4_K),
        "ffn_down": _first(lambda model: model.layers // 8, Type.Q5_K, Type.Q4_K),
    },
    "IQ4_XS": {
        "attn_v": _shared(Type.Q5_K, Type.IQ4_XS),
        "ffn_down": _first(
            lambda model: 0 if model.has_importance else model.layers // 8, Type.Q5_K, Type.IQ4_XS
        ),
    },
    "Q3_K_L": {
        "attn_v": _always(Type.Q5_K),
        "attn_output": _always(Type.Q5_K),
        "ffn_down": _always(Type.Q5_K),
    },
    "Q3_K_M": {
        "attn_v": _first(lambda model: 2, Type.Q5_K, Type.Q4_K),
        "attn_output": _always(Type.Q4_K),
        "ffn_down": _first(lambda model: model.layers // 16, Type.Q5_K, Type.Q4_K),
    },
    "Q2_K": {
        "attn_v": _shared(Type.Q4_K, Type.Q3_K),
        "attn_output": _always(Type.Q3_K),
        "ffn_down": _always(Type.Q3_K),
    },
}
"""Where a type is a mixture: the role of a tensor → its rule. All others take the base type; attn_qkv
follows attn_v's rule."""


VALUES = ("attn_v", "attn_qkv")
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
NEVER_QUANTIZED = ("per_layer_model_proj.weight",)
ALWAYS_F32 = ("_norm.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "ffn_gate_inp.weight")
MIXTRAL = 8
"""So many experts llama.cpp takes for Mixtral's, whose attention is small beside them."""
MIXTRAL_OUTPUT = ("IQ4_XS", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q2_K")
"""Types that give its attn_output five bits; in all others it has the base type."""


def tensor_type(name: str, shape: tuple[int, ...], quant: str, model: Outline) -> Type:
    """The type of the GGUF tensor `name`; `shape` is [rows, columns] or [n]."""
    if len(shape) < 2 or not name.endswith(".weight") or name.endswith(ALWAYS_F32):
        return Type.F32
    base = BASE[quant]
    if base in UNQUANTIZED:
        return base
    if name in NEVER_QUANTIZED:
        return Type.F32
    columns = shape[-1]
    kind = _preferred(name, columns, base, quant, model)
    if columns % ggml.block_size(kind):
        kind = NARROW_FALLBACK.get(kind, kind)
    return Type.F16 if columns % ggml.block_size(kind) else kind


def _preferred(name: str, columns: int, base: Type, quant: str, model: Outline) -> Type:
    """The type where columns are a multiple of its block."""
    if name == "output.weight" or (model.tied and name in EMBEDDINGS):
        is_narrow = columns % ggml.block_size(base) != 0
        return Type.Q8_0 if is_narrow or base == Type.Q8_0 else Type.Q6_K
    if not name.startswith("blk."):
        return base
    _, layer, role = name.removesuffix(".weight").removesuffix("_exps").split(".", 2)
    is_value = role in VALUES
    if model.experts == MIXTRAL and (is_value or role == "attn_k"):
        return Type.Q8_0
    if model.experts == MIXTRAL and role == "attn_output":
        return Type.Q5_K if quant in MIXTRAL_OUTPUT else base
    kind = base
    if rule := RULES.get(quant, {}).get("attn_v" if is_value else role):
        # llama.cpp counts value tensors, not layers.
        layers = model.value_layers if is_value and model.value_layers else range(model.layers)
        kind = rule(layers.index(int(layer)), replace(model, layers=len(layers)))
    return Type.Q5_K if is_value and model.is_70b and kind in (Type.Q3_K, Type.Q4_K) else kind
