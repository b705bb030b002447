"""What the writer must know of a model family, and what several families share.

A family's methods are pure functions of a model's `config.json`. Reads no weights.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, RopeScalingType
from numpy.typing import NDArray

from mlx_finetuning.errors import ModelSettingUnsupported
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _

Config = Mapping[str, Any]
Value = int | float | str | bool | list[int] | list[bool]
"""Metadata: int is written as uint32 (int32 in lists), float as float32."""
Metadata = dict[str, Value]
Tensors = dict[str, NDArray[np.float32]]
Order = NDArray[np.intp]

COMPUTED_KEYS = (
    *("attention.", "rope.", "ssm.", "shortconv.", "expert_", "full_attention_"),
    *("embedding_length_", "embedding_scale", "residual_scale", "logit_scale"),
    *("attn_logit_", "final_logit_"),
)
"""Beginnings of GGUF keys that change what is computed: what one says must follow from the settings."""
ROPE_FREQUENCIES = "rope_freqs.weight"
NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
MLP = tuple(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
GELU = ("gelu_pytorch_tanh", "gelu_new")
ATTENTION = tuple(f"self_attn.{part}_proj.weight" for part in "qkvo")
LLAMA_BLOCK = (*ATTENTION, *MLP, *NORMS)
JOINED = {
    "shared_mlp.input_linear": ("mlp.gate_proj", "mlp.up_proj"),
    "shared_mlp.output_linear": ("mlp.down_proj",),
}
"""Modules of a folder and what mlx-lm and llama.cpp make of them, in equal shares of their rows."""


@dataclass(frozen=True)
class Form:
    """How the values of a GGUF tensor follow from those of its source."""

    rows: Order | None = None
    """Row i of the tensor is row `rows[i]` of the source; None keeps the order."""
    columns: Order | None = None
    formula: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    """Applied value by value."""
    share: int = 0
    """Which of the source's `shares`, equal in rows, the tensor is."""
    shares: int = 1


AS_IT_IS = Form()


def plus_one(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """For norms that are stored less one."""
    return values + np.float32(1)


class Family(ABC):
    """One architecture of llama.cpp: how a model's folder maps to a GGUF file.

    A subclass per architecture, without state; all methods are pure functions of `config.json`.
    """

    arch: MODEL_ARCH
    block: tuple[str, ...] = ()
    """The weights that every block of layers has: `mlp.up_proj.weight`."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Last parts of names that gguf's table knows by another name."""
    unused: tuple[str, ...] = ()
    """Beginnings of the names of weights that mlx-lm does not load, such as those that see."""
    pre_tokenizers: ClassVar[Mapping[str, str]] = {}
    """Pre-tokenizer names that llama.cpp's converter words differently for this family."""
    tied_by_default = False
    tokenizer_model = ""
    """llama.cpp's name for tokenizers like SentencePiece's, where it is the family's own."""

    @property
    def name(self) -> str:
        """`general.architecture`, and the prefix of the metadata's keys."""
        return MODEL_ARCH_NAMES[self.arch]

    def is_tied(self, config: Config) -> bool:
        """Whether the embedding is the output head too."""
        return bool(config.get("tie_word_embeddings", self.tied_by_default))

    @abstractmethod
    def metadata(self, config: Config) -> Metadata:
        """Keys without the architecture's prefix. Raises ModelSettingUnsupported, KeyError."""

    def layer_metadata(self, config: Config, layers: int) -> Metadata:
        """The part of the metadata that differs among layers, for the first so many."""
        return {}

    def required(self, config: Config) -> set[str]:
        """The source weights that a model of this shape cannot do without."""
        return required_weights(config, self.block, self.is_tied(config))

    def form(self, config: Config, source: str) -> Form:
        """How a tensor follows from a weight; by the weight's own name in the folder."""
        return AS_IT_IS

    def computed_tensors(self, config: Config) -> Tensors:
        """Tensors that are computed from the configuration."""
        return {}

    def fewest_layers(self, config: Config) -> int:
        """mlx-lm or llama.cpp cannot compute fewer."""
        return 1

    def is_70b(self, config: Config) -> bool:
        """Whether llama.cpp takes it for a model of 70B, whose small attn_v it gives more bits."""
        return False

    def context_for(self, config: Config, longest: int) -> int:
        """Tokens of context in which llama.cpp computes sequences up to `longest` as mlx-lm does."""
        return longest


def text_part_name(source: str) -> str:
    """A weight's name as it is where a model has nothing but its text part."""
    return source.replace("language_model.", "", 1)


def mlx_names(name: str) -> tuple[str, ...]:
    """A weight's name in mlx-lm's class; of one that is separated there, all names, by rows."""
    module, __, last = name.rpartition(".")
    for joined, parts in JOINED.items():
        if module.endswith(f".{joined}"):
            start = module.removesuffix(joined)
            return tuple(f"{start}{part}.{last}" for part in parts)
    return (name,)


# --- shape -------------------------------------------------------------------------------


def head_size(config: Config) -> int:
    """Columns of one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def key_heads(config: Config) -> int:
    """Heads of keys and values."""
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def common_metadata(config: Config) -> Metadata:
    """What every family states."""
    return {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": key_heads(config),
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
    }


def head_metadata(config: Config) -> Metadata:
    """Stated where the configuration states it, as llama.cpp's converter does."""
    if not config.get("head_dim"):
        return {}
    return {
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
    }


def required_weights(config: Config, parts: Iterable[str], tied: bool) -> set[str]:
    """`parts`: the weights of one block, `mlp.up_proj.weight`."""
    names = {
        f"model.layers.{layer}.{part}"
        for layer in range(config["num_hidden_layers"])
        for part in parts
    }
    names |= {"model.embed_tokens.weight", "model.norm.weight"}
    return names if tied else names | {"lm_head.weight"}


def require_layer_types(config: Config, expected: list[str], supported: str) -> None:
    """`layer_types` is absent or as llama.cpp assumes; supported: that, in Japanese.

    Raises ModelSettingUnsupported.
    """
    if config.get("layer_types") not in (None, expected):
        raise ModelSettingUnsupported(
            setting="layer_types", value=_("ほかの並び"), supported=supported
        )


def require(config: Config, setting: str, allowed: tuple[object, ...]) -> None:
    """A setting that is absent or has one of these values. Raises ModelSettingUnsupported."""
    value = config.get(setting)
    if value is not None and value not in allowed:
        supported = _("、").join(str(item) for item in allowed)
        raise ModelSettingUnsupported(setting=setting, value=str(value), supported=supported)


# --- rope --------------------------------------------------------------------------------


def rope(config: Config) -> JsonObject:
    """Rope settings, from the older keys or from `rope_parameters`."""
    settings = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    settings.setdefault("rope_theta", config.get("rope_theta") or 10000.0)
    settings.setdefault("rope_type", settings.get("type", "default"))
    return settings


def rope_metadata(config: Config) -> Metadata:
    """Base and scaling. Raises ModelSettingUnsupported."""
    settings = rope(config)
    kind = settings["rope_type"]
    metadata: Metadata = {"rope.freq_base": float(settings["rope_theta"])}
    match kind:
        case "default" | "llama3":  # Llama 3's scaling is in the tensor rope_freqs.weight
            return metadata
        case "linear":
            scaling: Metadata = {
                "rope.scaling.type": RopeScalingType.LINEAR.value,
                "rope.scaling.factor": float(settings["factor"]),
            }
            return {**metadata, **scaling}
        case "yarn":
            # mlx-lm does not read these, so a file that did would not be the trained model.
            for setting in ("attention_factor", "attn_factor", "mscale", "mscale_all_dim"):
                require(settings, setting, ())
            return {**metadata, **yarn_metadata(settings), **yarn_ramp_metadata(settings)}
    raise ModelSettingUnsupported(
        setting="rope_type", value=str(kind), supported=_("default、llama3、linear、yarn")
    )


def yarn_metadata(settings: Config) -> Metadata:
    """What YaRN is computed from (https://arxiv.org/abs/2309.00071)."""
    return {
        "rope.scaling.type": RopeScalingType.YARN.value,
        "rope.scaling.factor": float(settings["factor"]),
        "rope.scaling.original_context_length": settings["original_max_position_embeddings"],
    }


def yarn_ramp_metadata(settings: Config) -> Metadata:
    """Between which rotations YaRN goes over from one frequency to the other, where it is stated."""
    return {
        f"rope.scaling.yarn_{setting}": float(settings[setting])
        for setting in ("beta_fast", "beta_slow")
        if settings.get(setting) is not None
    }


def rope_tensors(config: Config) -> Tensors:
    """The frequencies' divisors where rope is scaled as Llama 3's is, else nothing."""
    settings = rope(config)
    if settings["rope_type"] != "llama3":
        return {}
    return {ROPE_FREQUENCIES: llama3_rope_factors(head_size(config), settings)}


def llama3_rope_factors(size: int, settings: Config) -> NDArray[np.float32]:
    """Divisors of the rotation frequencies, [size / 2]: 1 for fast ones, `factor` for slow ones."""
    factor = settings["factor"]
    low, high = settings["low_freq_factor"], settings["high_freq_factor"]
    context = settings["original_max_position_embeddings"]
    powers = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    # NumPy's own float32 powers are off by one in the last place for every fifth of these.
    raised = np.float64(settings["rope_theta"]) ** powers.astype(np.float64)
    frequencies = 1 / raised.astype(np.float32)
    # Products with reciprocals, as torch divides a number by an array: so every bit is the same.
    wavelengths = np.float32(2 * math.pi) * (1 / frequencies)
    smooth = (context * (1 / wavelengths) - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    fast, slow = wavelengths < context / high, wavelengths > context / low
    return np.where(fast, 1.0, np.where(slow, factor, between)).astype(np.float32)
