"""The estimate of a training run: memory, time and batch sizes, from its first few updates."""

from __future__ import annotations

from mlx_finetuning import config, models
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import RunDoesNotFit
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Estimate
from mlx_finetuning.tasks.train import read_splits
from mlx_finetuning.tokenization import gate, reasoning


def run(context: TaskContext) -> Estimate:
    """config: TrainConfig. Raises DataError, ModelError, RunError."""
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.training import estimate, memory_fit

    settings = config.load(TrainConfig, context.config)
    model = models.resolve(settings.model, context.workspace)
    train_rows, valid_rows = read_splits(context, settings.dataset)
    try:
        memory_fit.require_loadable(model, settings)
    except RunDoesNotFit as error:
        return estimate.refused(settings, len(train_rows), error)
    loaded = load(model, thinks=reasoning.occurs_in(train_rows))
    gate.require_own_tokens(model, loaded.chat.encode, gate.row_texts(train_rows))
    return estimate.estimate(loaded, train_rows, valid_rows, settings, context.progress)
