"""Training: hands the run to the engine it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_finetuning import config
from mlx_finetuning.tasks.context import TaskContext


def run(context: TaskContext) -> dict[str, Any]:
    settings = config.load(config.TrainConfig, context.config)
    if settings.engine == "simulation":
        from mlx_finetuning.trainer.engines import simulation

        return simulation.run(context, settings)
    from mlx_finetuning import models

    model: Path = models.resolve(settings.model, context.workspace)
    if settings.engine == "mlx-lm":
        from mlx_finetuning.trainer.engines import mlx_lm

        return mlx_lm.run(context, settings, model)
    from mlx_finetuning.mlx_trainer import run as train_with_mlx

    return train_with_mlx(context, settings, model)
