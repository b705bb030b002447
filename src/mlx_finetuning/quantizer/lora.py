"""A LoRA adapter in mlx-lm's layout, and what it adds to a weight.

Reads `adapters.safetensors` and `adapter_config.json`. DoRA, full fine-tuning and adapters of
embeddings are refused, not approximated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.errors import AdapterUnusable, WeightsUnreadable
from mlx_finetuning.quantizer import safetensors
from mlx_finetuning.quantizer.safetensors import Rows

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"

TILE_ROWS = 16
SMALL_PRODUCT = 1 << 17
"""Multiplications that BLAS does in the calling thread. Beyond, its own threads would fight with
those that quantize: three times slower on two cores."""


@dataclass(frozen=True)
class Delta:
    """What is added to one weight W [out, in]: scale * (a @ b).T."""

    a: NDArray[np.float32]
    """[in, rank]"""
    b: NDArray[np.float32]
    """[rank, out]"""
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.b.shape[1], self.a.shape[0]

    def rows(self, which: Rows) -> NDArray[np.float32]:
        """The chosen output rows, [n, in], float32."""
        chosen = self.b[:, which].T * np.float32(self.scale)
        result = np.empty((len(chosen), self.a.shape[0]), np.float32)
        columns = max(1, SMALL_PRODUCT // (TILE_ROWS * self.a.shape[1]))
        for top in range(0, len(chosen), TILE_ROWS):
            rows = slice(top, top + TILE_ROWS)
            for left in range(0, self.a.shape[0], columns):
                part = slice(left, left + columns)
                result[rows, part] = chosen[rows] @ self.a[part].T
        return result


Adapter = dict[str, Delta]
"""Module name (`model.layers.0.self_attn.q_proj`) → what it adds."""


def read(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises AdapterUnusable."""
    scale = _scale(folder)
    try:
        tensors = safetensors.open_files([folder / WEIGHTS])
    except WeightsUnreadable as error:
        raise AdapterUnusable(path=str(folder), reason=error.data["reason"]) from error
    modules = {name.rpartition(".")[0] for name in tensors}
    expected = {f"{module}.{half}" for module in modules for half in ("lora_a", "lora_b")}
    if not tensors or expected != set(tensors):
        odd = sorted(expected ^ set(tensors))[:1] or ["(空)"]
        reason = f"lora_a と lora_b の組になっていない重みがあります: {odd[0]}"
        raise AdapterUnusable(path=str(folder), reason=reason)
    return {module: _delta(folder, tensors, module, scale) for module in sorted(modules)}


def check_fits(folder: Path, adapter: Adapter, weights: dict[str, tuple[int, ...]]) -> None:
    """Every module of the adapter changes a weight of that shape. Raises AdapterUnusable."""
    for module, delta in adapter.items():
        shape = weights.get(f"{module}.weight")
        if shape != delta.shape or "embed" in module:
            reason = f"{module} がベースモデルに合いません（{delta.shape} と {shape}）。"
            raise AdapterUnusable(path=str(folder), reason=reason)


def _scale(folder: Path) -> float:
    try:
        config: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config.get("fine_tune_type", "lora")
        scale = float(config["lora_parameters"]["scale"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterUnusable(path=str(folder), reason=f"{CONFIG} を読めません。") from error
    if kind != "lora":
        reason = f"種類 {kind} は書き出せません（書き出せるのは lora）。"
        raise AdapterUnusable(path=str(folder), reason=reason)
    return scale


def _delta(
    folder: Path, tensors: dict[str, safetensors.Tensor], module: str, scale: float
) -> Delta:
    everything = slice(None)
    a = tensors[f"{module}.lora_a"].rows(everything)
    b = tensors[f"{module}.lora_b"].rows(everything)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        reason = f"{module} の行列の形が合いません（{a.shape} と {b.shape}）。"
        raise AdapterUnusable(path=str(folder), reason=reason)
    return Delta(a, b, scale)
