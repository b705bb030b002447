"""The training loop: updates, validation, checkpoints, and a stop before the weights go bad.

Reports through `Hooks`; writes adapters only under the given folder, each file atomically. A run
that finds checkpoints there goes on from the newest as if it had never stopped.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_unflatten

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    Interrupted,
    LossExploded,
    LossNotFinite,
    MemoryRunsOut,
    NoTrainingRows,
    StudioError,
)
from mlx_finetuning.mlx_trainer import (
    adapters,
    batches,
    checkpoints,
    concatenation,
    cpu_math,
    loss,
    optimizer,
    packing,
    shares,
    shortcuts,
)
from mlx_finetuning.mlx_trainer.batches import Batch
from mlx_finetuning.mlx_trainer.checkpoints import Course
from mlx_finetuning.mlx_trainer.examples import Example, Place, encode_rows
from mlx_finetuning.mlx_trainer.load import LoadedModel
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.utils.memory_monitor import read_memory
from mlx_finetuning.workspace import AdapterPaths

STAGE = "学習"
VALIDATION = "検証"
LEFT_TO_OTHERS = 0.05
"""Share of the machine's memory that a run without a limit of its own leaves free."""


class Event(Protocol):
    def __call__(self, name: str, **data: Any) -> None: ...


@dataclass(frozen=True)
class Hooks:
    record: Callable[[dict[str, Any]], None]
    """Takes each line of `metrics.jsonl`."""
    event: Event
    progress: Progress
    rewind: Callable[[int], None] = lambda update: None
    """Told, before a resumed run goes on, that metrics after this update are void."""


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
    processes: int
    padded: bool
    """Whether examples had rows of their own, because the model class needs it."""
    resumed_from: int | None
    """The update of the checkpoint the last sitting began with."""
    stopped_early: bool


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

    Goes on from the newest checkpoint in `paths.checkpoints`. Raises NoTrainingRows,
    NothingToLearn, TargetsNotFound, FullNeedsPlainWeights, CheckpointForeign, LossNotFinite,
    LossExploded, MemoryRunsOut, HelperLost, DiskFull, Interrupted.
    """
    examples = encode_rows(loaded, train_rows, config.max_length, config.supervise)
    held_out = encode_rows(loaded, valid_rows, config.max_length, config.supervise)
    if not examples:
        raise NoTrainingRows()
    cpu_math.keep_freed_memory()
    config = _in_updates(config, len(examples))
    mx.random.seed(config.seed)
    adapter_config = adapters.attach(loaded.model, config)
    run = _Run(loaded, adapter_config, examples, held_out, config, paths, hooks)
    return run.go()


def _in_updates(config: TrainConfig, rows: int) -> TrainConfig:
    if not config.epochs:
        return config
    updates = math.ceil(config.epochs * rows / min(config.batch_size, rows))
    return dataclasses.replace(config, iterations=updates)


@dataclass(frozen=True)
class _State:
    """Adapter and optimizer; arrays never change in place, so keeping them costs no copy."""

    trained: Any
    optimizer: Any


class _Run:
    def __init__(
        self,
        loaded: LoadedModel,
        adapter_config: dict[str, Any],
        examples: list[Example],
        held_out: list[Example],
        config: TrainConfig,
        paths: AdapterPaths,
        hooks: Hooks,
    ) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._adapter_config = adapter_config
        self._examples = examples
        self._known: set[int] = set()
        self._starts = [0, *itertools.accumulate(len(item.tokens) for item in examples)]
        self._config = config
        self._paths = paths
        self._hooks = hooks
        self._identity = checkpoints.identity(config, examples)
        vocabulary = len(loaded.tokenizer.vocab)
        self._guess = math.log(max(2, vocabulary))
        self._rule = optimizer.build(config)
        self._rule.init(self._model.trainable_parameters())
        self._make = _arrangement(self._model, vocabulary)
        self._valid = list(batches.once(held_out, config.batch_size, self._make))
        self._valid_rows = len(held_out)
        self._course = Course()
        self._resumed_from: int | None = None
        self._stopped_early = False
        self._good: tuple[int, _State] | None = None

    # --- the whole -----------------------------------------------------------------------

    def go(self) -> TrainResult:
        mx.reset_peak_memory()
        self._resume()
        self._began_s = self._saved_s = time.monotonic() - self._course.elapsed_s
        with tempfile.TemporaryDirectory() as kept, self._team(Path(kept)) as team:
            self._course.processes = team.processes
            try:
                self._updates(team)
            except (Interrupted, MemoryRunsOut):
                self._checkpoint()
                raise
        self._model.eval()
        adapters.save(self._model, self._adapter_config, self._paths.folder)
        return self._result()

    def _resume(self) -> None:
        newest = checkpoints.latest(self._paths.checkpoints)
        if newest is None:
            self._hooks.rewind(-1)
            return
        self._course = checkpoints.restore(newest, self._model, self._rule, self._identity)
        self._resumed_from = self._course.update
        self._hooks.rewind(self._course.update)
        self._hooks.event("resumed", update=self._course.update)

    def _placed(self, index: int) -> Example:
        place = Place(self._starts[index], index in self._known)
        return dataclasses.replace(self._examples[index], place=place)

    def _room(self, folder: Path) -> shares.Room | None:
        """A file for the outputs of the untrained lower blocks, where keeping them pays."""
        config, width = self._config, int(self._loaded.config.get("hidden_size", 0))
        tokens = self._starts[-1]
        again = config.iterations * config.batch_size > len(self._examples)
        if not (config.keep_lower and again and width):
            return None
        if self._make is batches.batch_of or not shortcuts.lowest_trained(self._model):
            return None
        if self._is_half_precision() or 4 * tokens * width > shortcuts.LARGEST_KEPT:
            return None
        path = folder / "lower_outputs"
        with path.open("wb") as stream:
            stream.truncate(4 * tokens * width)
        return shares.Room(str(path), tokens, width)

    def _is_half_precision(self) -> bool:
        return bool(self._model.model.norm.weight.dtype != mx.float32)

    def _team(self, folder: Path) -> shares.Team:
        wanted = self._config.processes or self._recommended()
        if self._resumed_from is not None:
            # Another number would add the same sums in another order.
            wanted = self._course.processes
        helpers: list[shares.Helper] = []
        room = self._room(folder)
        if self._make is batches.concatenated and self._loaded.folder is not None:
            count = min(wanted, self._config.batch_size, len(self._examples)) - 1
            helpers = [shares.Helper(self._loaded.folder, self._config, room) for _ in range(count)]
        kept = None if room is None else room.open(self._model)
        team = shares.Team(self._model, self._make, helpers, kept)
        if team.holds_the_same_weights():
            return team
        return shares.Team(self._model, self._make, [], kept)

    def _recommended(self) -> int:
        config = self._config
        mean = sum(len(item.tokens) for item in self._examples) / len(self._examples)
        tokens = int(mean * config.batch_size)
        return shares.recommended(self._model, tokens, config.iterations, config.batch_size)

    def _updates(self, team: shares.Team) -> None:
        config, course = self._config, self._course
        order = batches.endless(
            len(self._examples), config.batch_size, config.seed, start=course.update
        )
        while True:
            if self._validation_is_due():
                self._validate()
            if self._ends_early():
                return
            if course.update >= config.iterations:
                return
            if self._checkpoint_is_due():
                self._checkpoint()
            taken = next(order)
            self._update(team, [self._placed(index) for index in taken])
            self._known.update(taken)
            detail = f"損失 {course.last_loss:.3f}"
            self._hooks.progress(Step(STAGE, course.update, config.iterations, detail))
            self._require_memory()

    def _result(self) -> TrainResult:
        course = self._course
        return TrainResult(
            updates=course.update,
            train_rows=len(self._examples),
            valid_rows=self._valid_rows,
            cut_rows=sum(example.cut > 0 for example in self._examples),
            supervised_tokens=course.supervised,
            first_valid_loss=course.first_valid,
            last_valid_loss=course.last_valid,
            best_valid_loss=course.best_valid,
            best_update=course.best_update,
            last_loss=course.last_loss,
            peak_memory_gb=mx.get_peak_memory() / 1e9,
            elapsed_s=self._elapsed_s,
            processes=course.processes,
            padded=self._make is batches.batch_of,
            resumed_from=self._resumed_from,
            stopped_early=self._stopped_early,
        )

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    # --- one update ----------------------------------------------------------------------

    def _update(self, team: shares.Team, examples: list[Example]) -> None:
        course, config = self._course, self._config
        number, began_s = course.update + 1, time.monotonic()
        before = _State(self._model.trainable_parameters(), self._rule.state)
        supervised = sum(example.targets for example in examples)
        self._model.train()
        sums = team.sums(examples, (config.seed, number))
        value = _number(sums.loss) / supervised
        gradients, norm = _clipped(sums.gradients, supervised, config.gradient_clip)
        self._require_sound(value, norm, number, examples)
        self._rule.learning_rate = optimizer.learning_rate(config, number)
        optimizer.apply(self._rule, self._model, gradients, config)
        mx.eval(self._model.trainable_parameters(), self._rule.state)
        # A finite loss vouches for the weights it was computed with.
        self._good = (course.update, before)
        course.update, course.last_loss = number, value
        course.first_loss = value if course.first_loss is None else course.first_loss
        course.supervised += supervised
        self._record(supervised, norm, time.monotonic() - began_s)

    def _record(self, supervised: int, norm: float, seconds: float) -> None:
        self._hooks.record(
            {
                "update": self._course.update,
                "loss": self._course.last_loss,
                "learning_rate": _number(self._rule.learning_rate),
                "gradient_norm": norm,
                "supervised_tokens": supervised,
                "tokens_per_second": round(supervised / seconds, 1),
                "peak_memory_gb": round(mx.get_peak_memory() / 1e9, 3),
                "elapsed_s": round(self._elapsed_s, 3),
            }
        )

    def _require_sound(
        self, value: float, norm: float, update: int, examples: list[Example]
    ) -> None:
        rows = [example.row for example in examples]
        first = value if self._course.first_loss is None else self._course.first_loss
        problem: StudioError
        if not (math.isfinite(value) and math.isfinite(norm)):
            problem = LossNotFinite(update=update, rows=rows)
        elif value > 2 * self._guess and value > 3 * first:
            problem = LossExploded(
                update=update, rows=rows, loss=round(value, 3), first_loss=round(first, 3)
            )
        else:
            return
        self._hooks.event("unsound", update=update, rows=rows)
        self._leave_last_good()
        raise problem

    def _leave_last_good(self) -> None:
        """Save the weights that last gave a sound loss as the run's adapter."""
        if self._good is None:
            return
        _, state = self._good
        self._model.update(state.trained)
        self._rule.state = state.optimizer
        adapters.save(self._model, self._adapter_config, self._paths.folder)

    def _require_memory(self) -> None:
        memory, limit_gb = read_memory(), self._config.memory_limit_gb
        used_gb = mx.get_active_memory() / 1e9
        if limit_gb and used_gb > limit_gb:
            raise MemoryRunsOut(
                used_gb=round(used_gb, 2), limit_gb=limit_gb, update=self._course.update
            )
        if memory.available < LEFT_TO_OTHERS * memory.total:
            raise MemoryRunsOut(
                used_gb=round((memory.total - memory.available) / 1e9, 2),
                limit_gb=round((1 - LEFT_TO_OTHERS) * memory.total / 1e9, 2),
                update=self._course.update,
            )

    # --- validation and checkpoints ------------------------------------------------------

    def _validation_is_due(self) -> bool:
        update, config = self._course.update, self._config
        if not self._valid or self._course.validated == update:
            return False
        return update % config.validate_every == 0 or update == config.iterations

    def _validate(self) -> None:
        course = self._course
        self._model.eval()
        value = self._valid_loss()
        course.validated = course.update
        course.first_valid = value if course.first_valid is None else course.first_valid
        course.last_valid = value
        line = {"update": course.update, "valid_loss": value}
        self._hooks.record({**line, "elapsed_s": round(self._elapsed_s, 3)})
        course.without_gain += 1
        if course.best_valid is None or value < course.best_valid:
            course.best_valid, course.best_update, course.without_gain = value, course.update, 0
            adapters.save(self._model, self._adapter_config, self._paths.best)

    def _valid_loss(self) -> float:
        total, count = 0.0, 0
        for number, batch in enumerate(self._valid):
            # A stop here leaves the validation undone; a resumed run begins with it.
            self._hooks.progress(Step(VALIDATION, number, len(self._valid)))
            total += loss.corpus_loss(self._model, [batch]) * batch.supervised
            count += batch.supervised
        return total / count

    def _ends_early(self) -> bool:
        course, patience = self._course, self._config.patience
        self._stopped_early = bool(
            patience and course.without_gain >= patience and course.update < self._config.iterations
        )
        if self._stopped_early:
            self._hooks.event("stopped_early", update=course.update, best=course.best_update)
        return self._stopped_early

    def _checkpoint_is_due(self) -> bool:
        update, minutes = self._course.update, self._config.checkpoint_minutes
        if not update or update == self._resumed_from:
            return False
        waited_s = time.monotonic() - self._saved_s
        return update % self._config.checkpoint_every == 0 or bool(
            minutes and waited_s >= 60 * minutes
        )

    def _checkpoint(self) -> None:
        self._course.elapsed_s = self._elapsed_s
        checkpoints.save(
            self._paths.checkpoints,
            self._model,
            self._adapter_config,
            self._rule,
            self._course,
            self._identity,
        )
        self._saved_s = time.monotonic()
        self._hooks.event("checkpoint", update=self._course.update)


def _arrangement(model: nn.Module, vocabulary: int) -> Callable[[Sequence[Example]], Batch]:
    """How examples share rows on this device; in rows of their own where the class needs it."""
    if mx.default_device() == mx.cpu:
        fits, make = concatenation.is_exact(model, vocabulary), batches.concatenated
    else:
        fits, make = packing.is_exact(model, vocabulary), batches.packed
    return make if fits else batches.batch_of


def _clipped(
    gradients: dict[str, mx.array], supervised: int, limit: float
) -> tuple[dict[str, Any], float]:
    """Gradients of the mean as a tree, limited to a global norm, and the norm before."""
    mean = {name: value / supervised for name, value in gradients.items()}
    limited, norm = optim.clip_grad_norm(mean, limit if limit > 0 else math.inf)
    chosen = limited if limit > 0 else mean
    return tree_unflatten(list(chosen.items())), _number(norm)


def _number(value: mx.array) -> float:
    return float(cast(float, value.item()))
