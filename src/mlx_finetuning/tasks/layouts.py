"""The trial of batch layouts: which of them this machine computes rightly, and how fast."""

from __future__ import annotations

from mlx_finetuning import bases, config
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import LayoutTrials
from mlx_finetuning.tasks.train import load_for, read_splits


def run(context: TaskContext) -> LayoutTrials:
    """config: TrainConfig. Raises DataError, ModelError, RunDoesNotFit."""
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    import mlx.core as mx

    from mlx_finetuning.mlx_trainer.training import layout_trial

    settings = config.load(TrainConfig, context.config)
    rows, _ = read_splits(context, settings.dataset)
    loaded = load_for(rows, bases.resolve(settings.model, context.workspace), settings)
    trials = layout_trial.trials(loaded, rows, settings, context.progress)
    return LayoutTrials(device=mx.default_device().type.name, trials=trials)
