"""The training loop: updates, validation, checkpoints, and a stop before the weights go bad.

Reports through `Hooks`; writes adapters only under the given folder, each file atomically.
Resuming, packing and data parallelism are not here yet.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import LossNotFinite, NoTrainingRows
from mlx_finetuning.mlx_trainer import adapters, batches, loss, optimizer
from mlx_finetuning.mlx_trainer.batches import Batch
from mlx_finetuning.mlx_trainer.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.load import LoadedModel
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.workspace import AdapterPaths

STAGE = "学習"
KEPT_CHECKPOINTS = 3


class Event(Protocol):
    def __call__(self, name: str, **data: Any) -> None: ...


@dataclass(frozen=True)
class Hooks:
    record: Callable[[dict[str, Any]], None]
    """Takes each line of `metrics.jsonl`."""
    event: Event
    progress: Progress


@dataclass(frozen=True)
class TrainResult:
    updates: int
    train_rows: int
    valid_rows: int
    cut_rows: int
    """Rows longer than the limit."""
    supervised_tokens: int
    first_valid_loss: float | None
    last_valid_loss: float | None
    best_valid_loss: float | None
    best_update: int
    last_loss: float | None
    peak_memory_gb: float
    elapsed_s: float


@dataclass
class _Course:
    """What changes while a run goes on."""

    began_s: float = field(default_factory=time.monotonic)
    update: int = 0
    supervised: int = 0
    last_loss: float | None = None
    first_valid: float | None = None
    last_valid: float | None = None
    best_valid: float | None = None
    best_update: int = 0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began_s


def train(
    loaded: LoadedModel,
    train_rows: Sequence[dict[str, Any]],
    valid_rows: Sequence[dict[str, Any]],
    config: TrainConfig,
    paths: AdapterPaths,
    hooks: Hooks,
) -> TrainResult:
    """Train an adapter on `train_rows` and leave it in `paths.folder` (the last one) and
    `paths.best` (the one with the lowest validation loss).

    Raises NoTrainingRows, NothingToLearn, TargetsNotFound, LossNotFinite, DiskFull, Interrupted.
    """
    examples = encode_rows(loaded, train_rows, config.max_length)
    held_out = encode_rows(loaded, valid_rows, config.max_length)
    if not examples:
        raise NoTrainingRows()
    mx.random.seed(config.seed)
    adapter_config = adapters.attach(loaded.model, config)
    run = _Run(loaded.model, adapter_config, held_out, config, paths, hooks)
    course = run.go(examples)
    return TrainResult(
        updates=course.update,
        train_rows=len(examples),
        valid_rows=len(held_out),
        cut_rows=sum(example.cut > 0 for example in examples),
        supervised_tokens=course.supervised,
        first_valid_loss=course.first_valid,
        last_valid_loss=course.last_valid,
        best_valid_loss=course.best_valid,
        best_update=course.best_update,
        last_loss=course.last_loss,
        peak_memory_gb=mx.get_peak_memory() / 1e9,
        elapsed_s=course.elapsed_s,
    )


class _Run:
    def __init__(
        self,
        model: nn.Module,
        adapter_config: dict[str, Any],
        held_out: list[Example],
        config: TrainConfig,
        paths: AdapterPaths,
        hooks: Hooks,
    ) -> None:
        self._model = model
        self._adapter_config = adapter_config
        self._config = config
        self._paths = paths
        self._hooks = hooks
        self._optimizer = optimizer.build(config)
        self._valid = list(batches.once(held_out, config.batch_size)) if held_out else []
        self._course = _Course()

    def go(self, examples: list[Example]) -> _Course:
        course, config = self._course, self._config
        step = compiled_step(self._model, self._optimizer, config.gradient_clip)
        stream = batches.endless(examples, config.batch_size, config.seed)
        mx.reset_peak_memory()
        self._validate()
        self._model.train()
        for update in range(1, config.iterations + 1):
            self._update(step, next(stream), update)
            course.update = update
            if update % config.validate_every == 0 or update == config.iterations:
                self._validate()
            if update % config.checkpoint_every == 0 and update < config.iterations:
                self._checkpoint()
        self._model.eval()
        adapters.save(self._model, self._adapter_config, self._paths.folder)
        return course

    def _update(self, step: UpdateStep, batch: Batch, update: int) -> None:
        began_s = time.monotonic()
        self._optimizer.learning_rate = optimizer.learning_rate(self._config, update)
        value, norm = step(batch.tokens, batch.positions, batch.targets, batch.weights)
        mx.eval(value, norm, self._model.trainable_parameters(), self._optimizer.state)
        self._course.supervised += batch.supervised
        self._course.last_loss = _number(value)
        self._require_finite(batch, update, _number(norm))
        elapsed_s = time.monotonic() - began_s
        self._hooks.record(
            {
                "update": update,
                "loss": self._course.last_loss,
                "learning_rate": _number(self._optimizer.learning_rate),
                "gradient_norm": _number(norm),
                "supervised_tokens": batch.supervised,
                "tokens_per_second": round(batch.supervised / elapsed_s, 1),
                "peak_memory_gb": round(mx.get_peak_memory() / 1e9, 3),
                "elapsed_s": round(self._course.elapsed_s, 3),
            }
        )
        detail = f"損失 {self._course.last_loss:.3f}"
        self._hooks.progress(Step(STAGE, update, self._config.iterations, detail))

    def _require_finite(self, batch: Batch, update: int, norm: float) -> None:
        value = self._course.last_loss
        if value is None or not math.isfinite(value) or not math.isfinite(norm):
            self._hooks.event("not_finite", update=update, rows=list(batch.rows))
            raise LossNotFinite(update=update, rows=list(batch.rows))

    def _validate(self) -> None:
        if not self._valid:
            return
        self._model.eval()
        value = loss.corpus_loss(self._model, self._valid)
        self._model.train()
        course = self._course
        course.first_valid = value if course.first_valid is None else course.first_valid
        course.last_valid = value
        self._hooks.record(
            {
                "update": course.update,
                "valid_loss": value,
                "elapsed_s": round(course.elapsed_s, 3),
            }
        )
        if course.best_valid is None or value < course.best_valid:
            course.best_valid, course.best_update = value, course.update
            adapters.save(self._model, self._adapter_config, self._paths.best)

    def _checkpoint(self) -> None:
        update = self._course.update
        folder = self._paths.checkpoints / f"{update:07d}"
        adapters.save(self._model, self._adapter_config, folder)
        state = dict(tree_flatten(self._optimizer.state))
        adapters.write_arrays(folder / "optimizer.safetensors", state)
        self._hooks.event("checkpoint", update=update)
        _remove_oldest(self._paths.checkpoints)


UpdateStep = Callable[[mx.array, mx.array, mx.array, mx.array], tuple[mx.array, mx.array]]


def compiled_step(model: nn.Module, rule: optim.Optimizer, clip: float) -> UpdateStep:
    """One update: loss, gradients of the adapter, clipping by global norm, optimizer.

    Returns the loss (nats per supervised target) and the gradients' norm before clipping. On the
    CPU it is not compiled: each new shape would start the C++ compiler and gain nothing.
    """
    gradient = nn.value_and_grad(model, partial(loss.mean_loss, model))
    rule.init(model.trainable_parameters())

    def step(*batch: mx.array) -> tuple[mx.array, mx.array]:
        value, gradients = gradient(*batch)
        limited, norm = optim.clip_grad_norm(gradients, clip if clip > 0 else math.inf)
        rule.update(model, limited if clip > 0 else gradients)
        return value, norm

    if mx.default_device() == mx.cpu:
        return step
    tracked = [model.state, rule.state, mx.random.state]
    return cast(UpdateStep, mx.compile(step, inputs=tracked, outputs=tracked))


def _remove_oldest(folder: Path) -> None:
    kept = sorted(path for path in folder.iterdir() if path.name.isdigit())
    for old in kept[:-KEPT_CHECKPOINTS]:
        for path in old.iterdir():
            path.unlink()
        old.rmdir()


def _number(value: mx.array) -> float:
    return float(cast(float, value.item()))
