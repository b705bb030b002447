"""The estimate of a training run: memory, time and batch sizes, from its first few updates."""

from __future__ import annotations

from dataclasses import replace

from mlx_finetuning import bases, config
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import RunDoesNotFit
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Estimate
from mlx_finetuning.language import _, sentences
from mlx_finetuning.tasks.train import load_for, read_splits
from mlx_finetuning.utils.units import duration


def run(context: TaskContext) -> Estimate:
    """config: TrainConfig. Raises DataError, ModelError, RunError."""
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    from mlx_finetuning.mlx_trainer.training import estimate, replay

    settings = config.load(TrainConfig, context.config)
    model = bases.resolve(settings.model, context.workspace)
    train_rows, valid_rows = read_splits(context, settings.dataset)
    try:
        loaded = load_for(train_rows, model, settings)
    except RunDoesNotFit as error:
        return estimate.refused(settings, len(train_rows), error)
    cache = context.workspace.self_answers
    said, asked_s = replay.rehearse(loaded, train_rows, settings, cache, context.progress)
    found = estimate.estimate(
        loaded, train_rows, valid_rows, settings, context.progress, said.examples
    )
    if not asked_s or not found.fits:
        return found
    first = _(
        "このモデルの最初の学習では、忘れにくくするための質問と答えを作るのに、約{time}かかります（予想時間に含みます）。"
    ).format(time=duration(asked_s))
    return replace(
        found,
        total_s=round(found.total_s + asked_s, 1),
        reason_ja=sentences(first, found.reason_ja),
    )
