"""How each model family's folder maps to GGUF: metadata, tensor names, row orders, extra tensors.

A new family is a subclass of `Family` and an entry in `FAMILIES`, with its tests. Follows llama.cpp's
own converter. What llama.cpp does not read from the file but assumes, a family checks: an error where
it differs. Reads no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gguf import get_tensor_name_map

from mlx_finetuning.errors import ArchitectureUnsupported, ModelSettingUnsupported
from mlx_finetuning.files import JsonObject
from mlx_finetuning.language import _
from mlx_finetuning.quantizer.families.family import (
    Config,
    Family,
    Form,
    Metadata,
    mlx_names,
    text_part_name,
)
from mlx_finetuning.quantizer.families.gemma import Gemma2, Gemma3
from mlx_finetuning.quantizer.families.gemma4 import Gemma4
from mlx_finetuning.quantizer.families.gpt_oss import GptOss
from mlx_finetuning.quantizer.families.lfm2 import Lfm2
from mlx_finetuning.quantizer.families.llama import Granite, Llama, Ministral3, Mistral3, SmolLM3
from mlx_finetuning.quantizer.families.phi3 import Phi3
from mlx_finetuning.quantizer.families.qwen import Qwen2, Qwen3, Qwen3Moe
from mlx_finetuning.quantizer.families.qwen35 import Qwen35
from mlx_finetuning.quantizer.families.tensor_types import Outline
from mlx_finetuning.quantizer.formats import experts

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Llama(),
    "MistralForCausalLM": Llama(),
    "Qwen2ForCausalLM": Qwen2(),
    "Qwen3ForCausalLM": Qwen3(),
    "Qwen3MoeForCausalLM": Qwen3Moe(),
    "Gemma2ForCausalLM": Gemma2(),
    "Gemma3ForCausalLM": Gemma3(),
    "Gemma3ForConditionalGeneration": Gemma3(),
    "Gemma4ForCausalLM": Gemma4(),
    "Gemma4ForConditionalGeneration": Gemma4(),
    "Gemma4UnifiedForConditionalGeneration": Gemma4(),
    "GptOssForCausalLM": GptOss(),
    "GraniteForCausalLM": Granite(),
    "GraniteMoeHybridForCausalLM": Granite(),
    "Lfm2ForCausalLM": Lfm2(),
    "Ministral3ForCausalLM": Ministral3(),
    "Mistral3ForConditionalGeneration": Mistral3(),
    "Phi3ForCausalLM": Phi3(),
    "Qwen3_5ForCausalLM": Qwen35(),
    "Qwen3_5ForConditionalGeneration": Qwen35(),
    "SmolLM3ForCausalLM": SmolLM3(),
}
"""Class of `architectures` in config.json → its family."""


@dataclass(frozen=True)
class MappedTensor:
    """One tensor of the GGUF file and where it comes from."""

    name: str
    source: str
    """Its name in the Hugging Face folder; of experts' weights, mlx-lm's."""
    form: Form
    stored_names: tuple[str, ...]
    """Where it lies in the folder: one name, or one per expert."""
    mlx_name: str
    """Its name in mlx-lm's class, without what a text part is within."""


def text_part(config: Config) -> JsonObject:
    """The settings of a model's text part, on one level, as those of a model that only reads."""
    return {**config, **(config.get("text_config") or {}), "architectures": _architectures(config)}


def _architectures(config: Config) -> list[str]:
    return config.get("architectures") or [_("(なし)")]


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
            setting=error.args[0], value=_("（なし）"), supported=_("値のある設定")
        ) from error


def outline(config: Config) -> Outline:
    """What the choice of tensors' types needs to know of the model. Raises as `metadata`."""
    family, stated = of(config), metadata(config)
    key_heads = stated["attention.head_count_kv"]
    # llama.cpp looks at the first layer alone, which may have no attention.
    first = key_heads[0] if isinstance(key_heads, list) else key_heads
    heads = config["num_attention_heads"]
    return Outline(
        layers=config["num_hidden_layers"],
        tied=family.is_tied(config),
        sharing=heads // int(first) if isinstance(first, int) and first else 0,
        experts=int(str(stated.get("expert_count", 0))),
        is_70b=family.is_70b(config),
    )


def mapping(
    family: Family, config: Config, sources: list[str]
) -> tuple[list[MappedTensor], list[str]]:
    """Where each source tensor goes, in the order of a GGUF file, and the names that fit nowhere."""
    table = get_tensor_name_map(family.arch, config["num_hidden_layers"])
    mapped, unknown = [], []
    for source, stored_names in experts.grouped(sources, config.get("num_experts") or 0).items():
        # Both mlx-lm and llama.cpp ignore a head that repeats the embedding.
        is_repeated_head = text_part_name(source) == "lm_head.weight" and family.is_tied(config)
        is_unused = source.endswith(".rotary_emb.inv_freq") or source.startswith(family.unused)
        if is_repeated_head or is_unused:
            continue
        names = mlx_names(text_part_name(source))
        for share, mlx_name in enumerate(names):
            # gguf's table has its own word for a few last parts, and for stacked experts.
            module, __, last = mlx_name.replace(f".{experts.STACK}.", ".experts.").rpartition(".")
            listed = f"{module}.{family.renamed.get(last, last)}"
            name = table.get_name(listed, try_suffixes=(".weight", ".bias"))
            if name is None:
                unknown.append(source)
                continue
            form = replace(family.form(config, source), share=share, shares=len(names))
            mapped.append(MappedTensor(name, source, form, stored_names, mlx_name))

    def file_order(tensor: MappedTensor) -> tuple[int, int, str]:
        part, __, rest = tensor.name.partition(".")
        if part == "blk":
            return 1, int(rest.split(".")[0]), tensor.name
        return (0 if part == "token_embd" else 2), 0, tensor.name

    return sorted(mapped, key=file_order), unknown
