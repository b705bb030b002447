"""Rows, settings and a recorder of what a training run reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.progress import silent

CONFIG = TrainConfig(
    iterations=6,
    batch_size=3,
    rank=4,
    alpha=8.0,
    warmup=2,
    validate_every=3,
    checkpoint_every=2,
    sample_every=0,
)


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"品番{n}の値段は？" + "とても" * (n % 3)},
                {"role": "assistant", "content": f"{n}00円です。"},
            ],
            "row": n + 2,
        }
        for n in range(count)
    ]


class Recorder:
    def __init__(self) -> None:
        self.lines: list[Mapping[str, Any]] = []
        self.events: list[str] = []
        self.warnings: list[str] = []

    def hooks(self, progress: Any = silent) -> loop.Hooks:
        return loop.Hooks(self.lines.append, self._event, progress)

    def _event(self, name: str, **data: Any) -> None:
        self.events.append(name)
        if name == "warning":
            self.warnings.append(data["text"])

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in self.lines if "loss" in line]


def tiny_folder() -> Path:
    from mlx_finetuning import models
    from mlx_finetuning.workspace import Workspace

    return models.resolve("tiny-ja", Workspace(Path("/nonexistent")))
