"""What terminal and browser say of a model of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_finetuning.language import N_, _
from mlx_finetuning.models.entries import CatalogueEntry
from mlx_finetuning.models.fitting import MachineFit

FIT_JA: dict[MachineFit, str] = {
    "fits": N_("学習できる"),
    "fits_4bit": N_("4ビット版なら"),
    "too_large": N_("足りない"),
}
_REACH_JA = {
    "mlx": "MLX",
    "gguf": "GGUF",
    "ollama": "Ollama",
    "ollama_vocabulary": N_("Ollama（語彙内の文字だけ）"),
}


def reach_ja(reach: Sequence[str]) -> str:
    """Where it can be used after training."""
    return (
        _("・", "places").join(_(_REACH_JA[end]) for end in reach)
        if len(reach) > 1
        else _("MLXだけ")
    )


def twin_ja(entry: CatalogueEntry) -> str:
    """Empty where there is none."""
    twin = entry.mlx_4bit
    if twin is None:
        return ""
    return _(
        "メモリーが足りないときは、4ビット版の {name} を学習できます（QLoRA。{memory_gb:g} GBから）。"
    ).format(name=twin.name, memory_gb=twin.memory_gb)
