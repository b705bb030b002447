"""What terminal and browser say of a model of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_finetuning.models.entries import CatalogueEntry
from mlx_finetuning.models.fitting import MachineFit

FIT_JA: dict[MachineFit, str] = {
    "fits": "学習できる",
    "fits_4bit": "4ビット版なら",
    "too_large": "足りない",
}
_REACH_JA = {
    "mlx": "MLX",
    "gguf": "GGUF",
    "ollama": "Ollama",
    "ollama_vocabulary": "Ollama（語彙内の文字だけ）",
}


def reach_ja(reach: Sequence[str]) -> str:
    """Where it can be used after training."""
    return "・".join(_REACH_JA[end] for end in reach) if len(reach) > 1 else "MLXだけ"


def twin_ja(entry: CatalogueEntry) -> str:
    """Empty where there is none."""
    twin = entry.mlx_4bit
    if twin is None:
        return ""
    return (
        f"メモリーが足りないときは、4ビット版の {twin.name} を学習できます"
        f"（QLoRA。{twin.memory_gb:g} GBから）。"
    )
