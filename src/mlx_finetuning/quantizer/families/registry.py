"""How each model family's folder maps to GGUF: metadata, tensor names, row orders, extra tensors.

A new family is an entry in `FAMILIES` with its tests. Follows llama.cpp's own converter. What
llama.cpp does not read from the file but assumes is checked here, and an error where it differs.
Reads no weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, get_tensor_name_map

from mlx_finetuning.errors import ArchitectureUnsupported, ModelSettingUnsupported
from mlx_finetuning.quantizer.families.family import (
    AS_IT_IS,
    ATTENTION,
    GELU,
    LLAMA_BLOCK,
    MLP,
    NORMS,
    Config,
    Family,
    Form,
    Metadata,
    Tensors,
    common_metadata,
    head_metadata,
    head_size,
    key_heads,
    llama_form,
    llama_metadata,
    plain,
    plus_one,
    require,
    required_weights,
    rope,
    rope_metadata,
    rope_tensors,
    separated,
)
from mlx_finetuning.quantizer.families.gemma4 import GEMMA4
from mlx_finetuning.quantizer.families.gpt_oss import GPT_OSS
from mlx_finetuning.quantizer.families.lfm2 import LFM2
from mlx_finetuning.quantizer.families.llama_like import GRANITE, MINISTRAL3, MISTRAL3, SMOLLM3
from mlx_finetuning.quantizer.families.qwen3moe import QWEN3MOE
from mlx_finetuning.quantizer.families.qwen35 import QWEN35
from mlx_finetuning.quantizer.families.recipe import Outline
from mlx_finetuning.quantizer.formats import experts
from mlx_finetuning.utils.model_settings import OUTSIDE_TEXT


@dataclass(frozen=True)
class Mapped:
    """One tensor of the GGUF file and where it comes from."""

    name: str
    source: str
    """Its name in the Hugging Face folder; of experts' weights, mlx-lm's."""
    form: Form
    sources: tuple[str, ...]
    """Where it lies in the folder: one name, or one per expert."""
    known: str
    """Its name in mlx-lm's class, without what a text part is within."""


def text_part(config: Config) -> dict[str, Any]:
    """The settings of a model's text part, on one level, as those of a model that only reads."""
    return {**config, **(config.get("text_config") or {}), "architectures": _architectures(config)}


def _architectures(config: Config) -> list[str]:
    return config.get("architectures") or ["(なし)"]


def of(config: Config) -> Family:
    """The family of a model's `config.json`. Raises ArchitectureUnsupported."""
    name = _architectures(config)[0]
    if name not in FAMILIES:
        raise ArchitectureUnsupported(architecture=name, supported=sorted(FAMILIES))
    return FAMILIES[name]


def is_known(architecture: str) -> bool:
    """Whether models of a class of config.json's `architectures` can be written as GGUF."""
    return architecture in FAMILIES


def metadata(config: Config) -> Metadata:
    """What a file states of the model. Raises ArchitectureUnsupported, ModelSettingUnsupported."""
    try:
        return of(config).metadata(config)
    except KeyError as error:
        raise ModelSettingUnsupported(
            setting=error.args[0], value="（なし）", supported="値のある設定"
        ) from error


def outline(config: Config) -> Outline:
    """What the quantization recipe needs to know of the model. Raises as `metadata`."""
    heads = config["num_attention_heads"]
    layers = config["num_hidden_layers"]
    grouped_llama = of(config) is LLAMA and heads != key_heads(config)
    stated = metadata(config)
    keys = stated["attention.head_count_kv"]
    # llama.cpp looks at the first layer alone, which may have no attention.
    first = keys[0] if isinstance(keys, list) else keys
    return Outline(
        layers=layers,
        tied=of(config).is_tied(config),
        sharing=heads // int(first) if isinstance(first, int) and first else 0,
        experts=int(str(stated.get("expert_count", 0))),
        is_70b=layers == 80 and (grouped_llama or of(config) is QWEN2),
    )


def context_for(config: Config, longest: int) -> int:
    """Tokens of context in which llama.cpp computes sequences up to `longest` as mlx-lm does.

    mlx-lm always rotates by the factors for long texts; llama.cpp chooses by the context.
    """
    uses_factors = of(config) is PHI3 and rope(config)["rope_type"] in _LONGROPE
    return max(longest, _original_context(config) + 1) if uses_factors else longest


def mapping(family: Family, config: Config, sources: list[str]) -> tuple[list[Mapped], list[str]]:
    """Where each source tensor goes, in the order of a GGUF file, and the names that fit nowhere."""
    names = get_tensor_name_map(family.arch, config["num_hidden_layers"])
    found, unknown = [], []
    for source, stored in experts.grouped(sources, config.get("num_experts") or 0).items():
        if _is_unused(family, config, source):
            continue
        parts = separated(plain(source))
        for share, known in enumerate(parts):
            name = names.get_name(_tables_name(family, known), try_suffixes=(".weight", ".bias"))
            if name is None:
                unknown.append(source)
                continue
            form = replace(family.form(config, source), share=share, shares=len(parts))
            found.append(Mapped(name, source, form, stored, known))
    return sorted(found, key=_file_order), unknown


def _tables_name(family: Family, known: str) -> str:
    """The name under which gguf's table has a weight."""
    module, _, last = known.replace(f".{experts.STACK}.", ".experts.").rpartition(".")
    return f"{module}.{(family.renamed or {}).get(last, last)}"


def _is_unused(family: Family, config: Config, source: str) -> bool:
    # Both mlx-lm and llama.cpp ignore a head that repeats the embedding.
    repeated_head = plain(source) == "lm_head.weight" and family.is_tied(config)
    unneeded = source.endswith(".rotary_emb.inv_freq") or source.startswith(family.unused)
    return repeated_head or unneeded


def _file_order(mapped: Mapped) -> tuple[int, int, str]:
    part, _, rest = mapped.name.partition(".")
    if part == "blk":
        return 1, int(rest.split(".")[0]), mapped.name
    return (0 if part == "token_embd" else 2), 0, mapped.name


# --- llama, mistral ----------------------------------------------------------------------


def _llama_required(config: Config) -> set[str]:
    return required_weights(config, LLAMA_BLOCK, LLAMA.is_tied(config))


LLAMA = Family(MODEL_ARCH.LLAMA, llama_metadata, _llama_required, llama_form, rope_tensors)

# --- qwen --------------------------------------------------------------------------------


def _qwen_metadata(config: Config) -> Metadata:
    require(config, "hidden_act", ("silu",))
    require(config, "use_sliding_window", (False,))
    return {**common_metadata(config), **head_metadata(config), **_refusing_llama3(config)}


def _refusing_llama3(config: Config) -> Metadata:
    require(rope(config), "rope_type", ("default", "linear", "yarn"))
    return rope_metadata(config)


def _qwen2_required(config: Config) -> set[str]:
    biases = tuple(f"self_attn.{part}_proj.bias" for part in "qkv")
    return required_weights(config, (*LLAMA_BLOCK, *biases), QWEN2.is_tied(config))


def _qwen3_required(config: Config) -> set[str]:
    norms = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
    return required_weights(config, (*LLAMA_BLOCK, *norms), QWEN3.is_tied(config))


QWEN2 = Family(MODEL_ARCH.QWEN2, _qwen_metadata, _qwen2_required)
QWEN3 = Family(MODEL_ARCH.QWEN3, _qwen_metadata, _qwen3_required)

# --- gemma -------------------------------------------------------------------------------

_GEMMA_NORMS = (
    *NORMS,
    "pre_feedforward_layernorm.weight",
    "post_feedforward_layernorm.weight",
)
GEMMA2_27B_LAYERS = 46
GEMMA3_27B_LAYERS = 62
GEMMA3_PATTERN = 6
"""Every sixth layer attends to everything; llama.cpp knows it, the file does not say it."""


def _check_gemma(config: Config, layers_of_27b: int) -> None:
    """llama.cpp infers the attention's scale from the number of layers."""
    require(config, "hidden_activation", GELU)
    is_27b = config["num_hidden_layers"] == layers_of_27b
    inferred = (
        config["hidden_size"] // config["num_attention_heads"] if is_27b else head_size(config)
    )
    require(config, "query_pre_attn_scalar", (inferred,))


def _gemma2_metadata(config: Config) -> Metadata:
    _check_gemma(config, GEMMA2_27B_LAYERS)
    require(config, "tie_word_embeddings", (True,))
    require(rope(config), "rope_theta", (10000, 10000.0))
    require(rope(config), "rope_type", ("default",))
    return {
        **common_metadata(config),
        **head_metadata({"head_dim": head_size(config)}),
        "attn_logit_softcapping": float(config["attn_logit_softcapping"]),
        "final_logit_softcapping": float(config["final_logit_softcapping"]),
        "attention.sliding_window": config["sliding_window"],
    }


def _gemma2_required(config: Config) -> set[str]:
    return required_weights(config, (*ATTENTION, *MLP, *_GEMMA_NORMS), True)


def _gemma3_metadata(config: Config) -> Metadata:
    _check_gemma(config, GEMMA3_27B_LAYERS)
    for setting in ("attn_logit_softcapping", "final_logit_softcapping"):
        require(config, setting, ())
    require(config, "sliding_window_pattern", (GEMMA3_PATTERN,))
    require(config, "use_bidirectional_attention", (False,))
    _check_layer_types(config)
    both = config.get("rope_parameters") or {}
    everywhere = {**config, "rope_parameters": both.get("full_attention", both)}
    local = both.get("sliding_attention", {}).get("rope_theta")
    return {
        **common_metadata(config),
        **head_metadata({"head_dim": head_size(config)}),
        **_refusing_llama3(everywhere),
        "rope.freq_base_swa": float(local or config.get("rope_local_base_freq", 10000.0)),
        "attention.sliding_window": config["sliding_window"],
    }


def _check_layer_types(config: Config) -> None:
    """Raises ModelSettingUnsupported."""
    expected = [
        "sliding_attention" if (layer + 1) % GEMMA3_PATTERN else "full_attention"
        for layer in range(config["num_hidden_layers"])
    ]
    if config.get("layer_types") not in (None, expected):
        raise ModelSettingUnsupported(
            setting="layer_types", value="ほかの並び", supported="6層ごとに1層が全体を見る並び"
        )


def _gemma3_required(config: Config) -> set[str]:
    norms = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
    parts = (*ATTENTION, *MLP, *_GEMMA_NORMS, *norms)
    return required_weights(config, parts, GEMMA3.is_tied(config))


def _gemma_form(config: Config, source: str) -> Form:
    return Form(formula=plus_one) if source.endswith("norm.weight") else AS_IT_IS


GEMMA2 = Family(
    MODEL_ARCH.GEMMA2, _gemma2_metadata, _gemma2_required, _gemma_form, tied_by_default=True
)
GEMMA3 = Family(
    MODEL_ARCH.GEMMA3,
    _gemma3_metadata,
    _gemma3_required,
    _gemma_form,
    tied_by_default=True,
    fewest_layers=lambda config: GEMMA3_PATTERN,
    unused=OUTSIDE_TEXT,
)

# --- phi ---------------------------------------------------------------------------------

_PHI_BLOCK = (
    "self_attn.qkv_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate_up_proj.weight",
    "mlp.down_proj.weight",
    *NORMS,
)
_LONGROPE = ("longrope", "su")


def _phi3_metadata(config: Config) -> Metadata:
    require(config, "hidden_act", ("silu",))
    require(rope(config), "rope_type", ("default", *_LONGROPE))
    return {
        **common_metadata(config),
        "rope.scaling.original_context_length": _original_context(config),
        "rope.dimension_count": _rotated(config),
        "rope.freq_base": float(rope(config)["rope_theta"]),
        **_longrope_metadata(config),
        # Zero tells llama.cpp Phi-4 from the others.
        "attention.sliding_window": config.get("sliding_window") or 0,
    }


def _original_context(config: Config) -> int:
    found = config.get("original_max_position_embeddings")
    return int(found or rope(config).get("original_max_position_embeddings", 4096))


def _rotated(config: Config) -> int:
    """Columns of a head that are rotated."""
    share = config.get("partial_rotary_factor") or rope(config).get("partial_rotary_factor", 1.0)
    return int(share * config["hidden_size"]) // int(config["num_attention_heads"])


def _longrope_metadata(config: Config) -> Metadata:
    if rope(config)["rope_type"] not in _LONGROPE:
        return {}
    original = _original_context(config)
    scale = config["max_position_embeddings"] / original
    factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return {"rope.scaling.attn_factor": factor}


def _phi3_tensors(config: Config) -> Tensors:
    settings = rope(config)
    if settings["rope_type"] not in _LONGROPE:
        return {}
    return {
        f"rope_factors_{kind}.weight": np.array(settings[f"{kind}_factor"], np.float32)
        for kind in ("long", "short")
    }


def _phi3_required(config: Config) -> set[str]:
    return required_weights(config, _PHI_BLOCK, PHI3.is_tied(config))


PHI3 = Family(
    MODEL_ARCH.PHI3,
    _phi3_metadata,
    _phi3_required,
    extra=_phi3_tensors,
    pre_tokenizers={"smaug-bpe": "dbrx"},
)

FAMILIES = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": LLAMA,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
    "Qwen3MoeForCausalLM": QWEN3MOE,
    "Gemma2ForCausalLM": GEMMA2,
    "Gemma3ForCausalLM": GEMMA3,
    "Gemma3ForConditionalGeneration": GEMMA3,
    "Gemma4ForCausalLM": GEMMA4,
    "Gemma4ForConditionalGeneration": GEMMA4,
    "Gemma4UnifiedForConditionalGeneration": GEMMA4,
    "GptOssForCausalLM": GPT_OSS,
    "GraniteForCausalLM": GRANITE,
    "GraniteMoeHybridForCausalLM": GRANITE,
    "Lfm2ForCausalLM": LFM2,
    "Ministral3ForCausalLM": MINISTRAL3,
    "Mistral3ForConditionalGeneration": MISTRAL3,
    "Phi3ForCausalLM": PHI3,
    "Qwen3_5ForCausalLM": QWEN35,
    "Qwen3_5ForConditionalGeneration": QWEN35,
    "SmolLM3ForCausalLM": SMOLLM3,
}
