"""The training loop: updates, validation, checkpoints, and a stop before the weights go bad.

Reports through `Hooks`; writes adapters only under the given folder, each file atomically. A run
that finds checkpoints there goes on from the newest as if it had never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx
import numpy as np

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    GradientWorkerLost,
    Interrupted,
    LossExploded,
    LossNotFinite,
    MemoryRunsOut,
    NoTrainingRows,
    StudioError,
)
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.gradient import backward, preference
from mlx_finetuning.mlx_trainer.gradient.preference import Item, Pair
from mlx_finetuning.mlx_trainer.kernels import cpu
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model import trainable as trained
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.training import (
    checkpoints,
    memory_fit,
    optimizer,
    samples,
    selfcheck,
)
from mlx_finetuning.mlx_trainer.training.checkpoints import TrainingState
from mlx_finetuning.mlx_trainer.training.selfcheck import Check
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.utils.memory_monitor import LEFT_TO_OTHERS, read_memory
from mlx_finetuning.workspace import AdapterPaths

STAGE = "学習"
VALIDATION = "検証"
REHEARSAL = "メモリーの確認"


class Event(Protocol):
    def __call__(self, name: str, **data: Any) -> None: ...


@dataclass(frozen=True)
class Hooks:
    record: Callable[[dict[str, Any]], None]
    """Takes each line of `metrics.jsonl`."""
    event: Event
    progress: Progress
    rewind: Callable[[int], None] = lambda update: None
    """Told, before a resumed run goes on, that metrics and samples after this update are void."""
    sample: Callable[[dict[str, Any]], None] | None = None
    """Takes each line of `samples.jsonl`; None if nobody wants sample answers."""


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
    """10**9 bytes: what each process held at most, added up; on a GPU, what its arrays took."""
    elapsed_s: float
    processes: int
    padded: bool
    """Whether examples had rows of their own, because the model class needs it."""
    micro_batch_size: int
    """Examples computed at once."""
    recompute: bool
    """Whether blocks were computed again for their gradients, to save memory."""
    checks: tuple[Check, ...]
    """What the run proved about itself."""
    resumed_from: int | None
    """The update of the checkpoint the last sitting began with."""
    stopped_early: bool
    objective: str
    """`sft`, `dpo` or `orpo`."""


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
    LossExploded, RunDoesNotFit, MemoryRunsOut, GradientWorkerLost, DiskFull, Interrupted.
    """
    config = dataclasses.replace(config, objective=preference.objective_for(config, train_rows))
    examples = _encoded(loaded, train_rows, config)
    held_out = _encoded(loaded, valid_rows, config)
    if not examples:
        raise NoTrainingRows()
    cpu.keep_freed_memory()
    config = _in_updates(config, len(examples))
    mx.random.seed(config.seed)
    adapter_config = adapters.attach(loaded.model, config)
    data = _Data(examples, held_out, samples.questions(train_rows, valid_rows))
    run = _Run(loaded, adapter_config, data, config, paths, hooks)
    if config.objective == "sft" and config.supervise == "answers":
        run.check(selfcheck.supervision(loaded, train_rows, data.examples))
    return run.go()


def _encoded(
    loaded: LoadedModel, rows: Sequence[dict[str, Any]], config: TrainConfig
) -> Sequence[Item]:
    if config.objective in preference.KINDS:
        return preference.encode_pairs(loaded, rows, config.max_length)
    return encode_rows(loaded, rows, config.max_length, config.supervise)


def _in_updates(config: TrainConfig, rows: int) -> TrainConfig:
    if not config.epochs:
        return config
    updates = math.ceil(config.epochs * rows / min(config.batch_size, rows))
    return dataclasses.replace(config, iterations=updates)


@dataclass(frozen=True)
class _Data:
    examples: Sequence[Item]
    held_out: Sequence[Item]
    questions: Sequence[Mapping[str, Any]]
    """Rows that are asked during training."""


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
        data: _Data,
        config: TrainConfig,
        paths: AdapterPaths,
        hooks: Hooks,
    ) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._adapter_config = adapter_config
        self._known: set[int] = set()
        self._config = config
        self._paths = paths
        self._hooks = hooks
        self._questions = data.questions
        self._identity = checkpoints.identity(config, data.examples, loaded.folder)
        vocabulary = len(loaded.tokenizer.vocab)
        self._guess = math.log(max(2, vocabulary))
        self._optimizer = optimizer.build(config)
        self._optimizer.init(self._model.trainable_parameters())
        self._make = workload.arrangement(self._model, vocabulary, config)
        self._examples = self._with_reference(data.examples)
        self._valid = list(
            batches.once(
                self._with_reference(data.held_out),
                config.batch_size,
                self._make,
                preference.room_of(self._make),
            )
        )
        self._valid_rows = len(data.held_out)
        self._work = workload.Workload(loaded, self._examples, self._make, config)
        self._checks: list[Check] = []
        self._course = TrainingState()
        self._resumed_from: int | None = None
        self._stopped_early = False
        self._good: tuple[int, _State] | None = None

    # --- the whole -----------------------------------------------------------------------

    def go(self) -> TrainResult:
        self._untrained = trained.of(self._model).arrays()
        self._resume()
        self._arrange()
        with tempfile.TemporaryDirectory() as kept, workload.gather(self._work, Path(kept)) as team:
            self._course.processes = team.processes
            self._rehearse(team)
            self._began_s = self._saved_s = time.monotonic() - self._course.elapsed_s
            try:
                self._updates(team)
                self.check(selfcheck.ranks(team.agree()))
            except (Interrupted, MemoryRunsOut, GradientWorkerLost):
                self._checkpoint()
                raise
            self._model.eval()
            self._save(self._paths.folder)
            self.check(selfcheck.reloaded(self._loaded, self._paths.folder, self._prompt))
            return self._result(team)

    def _resume(self) -> None:
        newest = checkpoints.latest(self._paths.checkpoints)
        if newest is None:
            self._hooks.rewind(-1)
            return
        self._course = checkpoints.restore(newest, self._model, self._optimizer, self._identity)
        self._resumed_from = self._course.update
        self._hooks.rewind(self._course.update)
        self._hooks.event("resumed", update=self._course.update)

    def _arrange(self) -> None:
        """Decide how updates are computed; a run that goes on computes them as it did."""
        course = self._course
        if self._resumed_from is None:
            self._hooks.progress(Step(REHEARSAL, 0, 0))
            found = memory_fit.fitted(self._work)
            course.micro_batch_size = found.config.micro_batch_size
            course.recompute = found.config.recompute
            course.processes = found.config.processes
            self._hooks.event("fit", **found.figures(self._work))
            for text in (*_padding(self._work), *_savings(self._work, found)):
                self._hooks.event("warning", text=text)
        self._config = dataclasses.replace(
            self._config,
            processes=course.processes,
            micro_batch_size=course.micro_batch_size,
            recompute=course.recompute,
        )
        self._work = dataclasses.replace(self._work, config=self._config)
        memory_fit.hold_to(memory_fit.allowed(self._config))

    def _rehearse(self, team: workload.AnyTeam) -> None:
        """The longest update first, for nothing but its memory: what does not fit fails now, and
        later updates find all the memory they need in place."""
        self._hooks.progress(Step(REHEARSAL, 0, 0))
        self._model.train()
        self._sums(team, self._work.longest(self._work.at_once), 0)
        self._hooks.event("rehearsed", peak_memory_gb=round(team.peak_memory() / 1e9, 3))

    def _sums(self, team: workload.AnyTeam, examples: list[Item], number: int) -> backward.Sums:
        """Over all examples of an update, computed in as many parts as memory asks for."""
        first, *rest = memory_fit.parts(examples, self._config.micro_batch_size)
        total = team.sums(first, (self._config.seed, number))
        for part, some in enumerate(rest, 1):
            total = backward.added(total, team.sums(some, (self._config.seed, number, part)))
        return total

    @property
    def _prompt(self) -> list[int]:
        return list(self._examples[0].tokens)

    def check(self, check: Check | None) -> None:
        if check is not None:
            self._checks.append(check)
            self._hooks.event("check", **dataclasses.asdict(check))

    def _with_reference(self, examples: Sequence[Item]) -> Sequence[Item]:
        """Pairs get what the untrained model says: asked before a checkpoint is restored."""
        config = self._config
        if config.objective != "dpo":
            return examples
        return preference.with_reference(
            self._model,
            cast(Sequence[Pair], examples),
            config.batch_size,
            self._make,
            self._hooks.progress,
        )

    def _updates(self, team: workload.AnyTeam) -> None:
        config, course = self._config, self._course
        order = batches.endless(
            len(self._examples), config.batch_size, config.seed, start=course.update
        )
        while True:
            if self._validation_is_due():
                self._validate()
            if self._sample_is_due():
                self._sample()
            if self._ends_early():
                return
            if course.update >= config.iterations:
                return
            if self._checkpoint_is_due():
                self._checkpoint()
            taken = next(order)
            self._update(team, [self._work.placed(index, index in self._known) for index in taken])
            self._known.update(taken)
            if course.update == min(selfcheck.AFTER, config.iterations):
                self.check(selfcheck.changed(self._untrained, trained.of(self._model).arrays()))
            self._hooks.progress(self._step())
            self._require_memory(team)

    def _step(self) -> Step:
        """Time left from all sittings so far, with what they spent on validation and the like."""
        course, total = self._course, self._config.iterations
        left_s = self._elapsed_s / course.update * (total - course.update)
        detail = f"損失 {course.last_loss:.3f}"
        return Step(STAGE, course.update, total, detail, round(left_s, 1))

    def _result(self, team: workload.AnyTeam) -> TrainResult:
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
            peak_memory_gb=round(team.peak_memory() / 1e9, 3),
            elapsed_s=self._elapsed_s,
            micro_batch_size=self._config.micro_batch_size,
            recompute=self._config.recompute == "on",
            checks=tuple(self._checks),
            processes=course.processes,
            padded=self._make in (batches.batch_of, preference.padded),
            objective=self._config.objective,
            resumed_from=self._resumed_from,
            stopped_early=self._stopped_early,
        )

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    # --- one update ----------------------------------------------------------------------

    def _update(self, team: workload.AnyTeam, examples: list[Item]) -> None:
        course, config = self._course, self._config
        number, began_s = course.update + 1, time.monotonic()
        arrays = trained.of(self._model)
        before = _State(arrays.arrays(), self._optimizer.state)
        supervised = sum(example.targets for example in examples)
        if not self._model.training:  # a walk over all modules, that most updates need not take
            self._model.train()
        sums = self._sums(team, examples, number)
        weight = sum(example.weight for example in examples)
        value, *marks = (total / weight for total in backward.numbers(sums.loss))
        gradients, norm = optimizer.clipped(sums.gradients, weight, config.gradient_clip)
        self._require_sound(value, norm, number, examples)
        self._optimizer.learning_rate = optimizer.learning_rate(config, number)
        optimizer.apply(self._optimizer, self._model, gradients, config)
        mx.eval(arrays.stored(), self._optimizer.state)
        # A finite loss vouches for the weights it was computed with.
        self._good = (course.update, before)
        course.update, course.last_loss = number, value
        course.first_loss = value if course.first_loss is None else course.first_loss
        course.supervised += supervised
        self._record(
            gradient_norm=norm,
            tokens=sum(len(example.tokens) for example in examples),
            supervised_tokens=supervised,
            tokens_per_second=round(supervised / (time.monotonic() - began_s), 1),
            peak_memory_gb=round(team.peak_memory() / 1e9, 3),
            **preference.named(marks),
        )

    def _record(self, **figures: float) -> None:
        self._hooks.record(
            {
                "update": self._course.update,
                "loss": self._course.last_loss,
                "learning_rate": _number(self._optimizer.learning_rate),
                **figures,
                "elapsed_s": round(self._elapsed_s, 3),
            }
        )

    def _require_sound(self, value: float, norm: float, update: int, examples: list[Item]) -> None:
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
        trained.of(self._model).put(state.trained)
        self._optimizer.state = state.optimizer
        self._save(self._paths.folder)

    def _save(self, folder: Path) -> None:
        adapters.save(self._model, self._adapter_config, folder, self._loaded.chat)

    def _require_memory(self, team: workload.AnyTeam) -> None:
        memory, limit_gb = read_memory(), self._config.memory_limit_gb
        # What was held at most is held still: freed memory stays with the processes.
        used_gb = team.peak_memory() / 1e9
        if limit_gb and used_gb > limit_gb:
            raise MemoryRunsOut(
                used_gb=round(used_gb, 2), limit_gb=limit_gb, update=self._course.update
            )
        if not memory.usable:
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
        value, *marks = self._valid_means()
        course.validated = course.update
        course.first_valid = value if course.first_valid is None else course.first_valid
        course.last_valid = value
        line = {"update": course.update, "valid_loss": value}
        line |= preference.named(marks, "valid_")
        self._hooks.record({**line, "elapsed_s": round(self._elapsed_s, 3)})
        course.without_gain += 1
        if course.best_valid is None or value < course.best_valid:
            course.best_valid, course.best_update, course.without_gain = value, course.update, 0
            self._save(self._paths.best)

    def _valid_means(self) -> list[float]:
        """The loss over all held-out examples; of pairs, the marks too."""
        sums, count = np.zeros(1), 0
        for number, batch in enumerate(self._valid):
            # A stop here leaves the validation undone; a resumed run begins with it.
            self._hooks.progress(Step(VALIDATION, number, len(self._valid)))
            sums = sums + backward.sums_of(self._model, batch, self._config)
            count += batch.supervised
        return cast(list[float], (sums / count).tolist())

    def _sample_is_due(self) -> bool:
        update, config = self._course.update, self._config
        if not (config.sample_every and self._hooks.sample) or self._course.sampled == update:
            return False
        return update % config.sample_every == 0 or update == config.iterations

    def _sample(self) -> None:
        self._model.eval()
        for line in samples.answers(self._loaded, self._questions, self._course.update):
            assert self._hooks.sample is not None
            self._hooks.sample(line)
        self._course.sampled = self._course.update

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
            self._loaded.chat,
            self._optimizer,
            self._course,
            self._identity,
        )
        self._saved_s = time.monotonic()
        self._hooks.event("checkpoint", update=self._course.update)


def _padding(work: workload.Workload) -> Iterator[str]:
    """Where examples cannot share rows because of how the model is built."""
    if work.make is batches.batch_of:
        yield (
            "このモデルの層では、複数の例を1行に並べて計算できません。"
            "例ごとに行を分け、余白で長さをそろえます。時間は増え、結果は変わりません。"
        )


def _savings(work: workload.Workload, found: memory_fit.Fit) -> Iterator[str]:
    """What is done to save memory without having been asked for."""
    available = f"使えるメモリーは {found.allowed / 1e9:.2f} GB"
    count = found.config.micro_batch_size
    if found.config.recompute == "on" and work.config.recompute == "auto":
        yield (
            f"{count} 例は一度にメモリーに収まらないため、層の途中の値を覚えずに計算し直します"
            f"（{available}）。時間は3割ほど増え、結果は変わりません。"
        )
    if count < min(work.config.micro_batch_size or work.at_once, work.at_once):
        yield (
            f"{work.at_once} 例は一度にメモリーに収まらないため、{count} 例ずつに分けて計算します"
            f"（{available}）。結果は変わりません。"
        )


def _number(value: mx.array) -> float:
    return float(cast(float, value.item()))
