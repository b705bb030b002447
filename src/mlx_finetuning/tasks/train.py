"""Training: hands the run to the engine it asks for. Our own goes on from its last checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import bases, config, files, models
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.records import continuing, tracking
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks import reworded_rows
from mlx_finetuning.tokenization import gate, reasoning
from mlx_finetuning.tokenization.rows import Row, read_rows
from mlx_finetuning.utils import gguf_base
from mlx_finetuning.workspace import RunPaths

if TYPE_CHECKING:
    from mlx_finetuning.mlx_trainer.model.load import LoadedModel
    from mlx_finetuning.mlx_trainer.training.loop import Shared

LOOKING_AT_BASE = N_("ベースのファイルの確認")


def run(context: TaskContext) -> TrainResult:
    """config: TrainConfig. Raises InvalidSettings, DataError, ModelError, RunError, DiskFull."""
    settings = config.load_of_run(context.config)
    if settings.engine == "simulation":
        from mlx_finetuning.trainer import simulation

        return simulation.run(context, settings)
    model = bases.resolve(settings.model, context.workspace)

    def warn(text: str) -> None:
        context.event("warning", text=text)

    with tracking.tracked(context.workspace, context.run_id, settings.trackers, warn):
        if settings.engine == "mlx-lm":
            from mlx_finetuning.trainer import mlx_lm

            return mlx_lm.run(context, settings, model)
        return _with_mlx(context, settings, model)


def _with_mlx(context: TaskContext, settings: TrainConfig, model: Path) -> TrainResult:
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    from mlx_finetuning.tasks import usability

    train_rows, valid_rows = read_splits(context, settings.dataset)
    base = gguf_base.read(model)
    if base is not None:
        context.progress(Step(_(LOOKING_AT_BASE), 0, 0))
        base.require_same_bytes()
    loaded = load_for(train_rows, model, settings)
    tiny = models.resolve(models.BUILT_IN, context.workspace)
    usable = usability.usability_of(model, loaded, [*train_rows, *valid_rows], tiny)
    context.event(
        "ends",
        text=_("学習したモデルを使える場所: {engines}").format(
            engines=_("、").join(usable.engines_ja)
        ),
    )
    for text in usable.warnings_ja:
        context.event("warning", text=text)
    result = learn(context, settings, loaded, train_rows, valid_rows)
    if base is not None:
        context.progress(Step(_(LOOKING_AT_BASE), 0, 0))
        base.require_same_bytes()
    return result


def learn(
    context: TaskContext,
    settings: TrainConfig,
    loaded: LoadedModel,
    train_rows: Sequence[Row],
    valid_rows: Sequence[Row],
    shared: Shared | None = None,
) -> TrainResult:
    """The run of `context` on a loaded base, to which its adapter stays attached.

    shared: with other runs on that base.

    Raises what `loop.train` raises.
    """
    from mlx_finetuning.mlx_trainer.training import loop, replay

    adapter = context.workspace.adapter(context.run_id)
    run = RunPaths(context.paths.folder)

    def rewind(update: int) -> None:
        for log in (run.metrics, run.samples):
            files.cut_lines(log, lambda line: line.get("update", 0) <= update)

    parent = None
    if settings.continues:
        before = continuing.settings_of(context.workspace, settings.continues)
        paths = context.workspace.adapter(settings.continues)
        parent = loop.Parent(paths, before.optimizer == settings.optimizer)
    train_rows = reworded_rows.with_wordings(train_rows, settings.wordings, settings.seed)
    said = replay.prepare(
        loaded,
        train_rows,
        settings,
        context.workspace.self_answers,
        run.replay,
        context.progress,
    )
    if settings.replay:
        context.event("replay", examples=len(said.examples), text=said.reason_ja)
    if settings.replay > 0 and said.reason_ja:
        context.event(
            "warning",
            text=_("replay（忘れにくくする学習）はしません。{reason}").format(
                reason=said.reason_ja
            ),
        )
    with files.LineLog(run.metrics) as metrics, files.LineLog(run.samples) as samples:
        hooks = loop.Hooks(metrics.append, context.event, context.progress, rewind, samples.append)
        result = loop.train(
            *(loaded, train_rows, valid_rows, settings, adapter, hooks, said.examples, parent),
            shared=shared,
        )
    return replace(result, adapter_path=str(adapter.folder), not_replayed=said.reason_ja)


def load_for(rows: Sequence[Row], model: Path, settings: TrainConfig) -> LoadedModel:
    """The base model as a run on `rows` trains it, once its tokens are known to be its file's own.

    Raises RunDoesNotFit, TokensDiffer, and what `load` raises.
    """
    from mlx_finetuning.mlx_trainer.model.load import load
    from mlx_finetuning.mlx_trainer.training import memory_fit

    memory_fit.require_loadable(model, settings)
    loaded = load(model, thinks=reasoning.occurs_in(rows))
    gate.require_own_tokens(model, loaded.chat.encode, gate.row_texts(rows))
    return loaded


def read_splits(context: TaskContext, name: str) -> tuple[list[Row], list[Row]]:
    """The rows that are trained on, and those that are held out. Raises DataError."""
    dataset = context.workspace.dataset(name)
    return read_rows(dataset.train), read_rows(dataset.valid) if dataset.valid.exists() else []
