"""The training loop: updates, validation, checkpoints, and a stop before the weights go bad.

Reports through `Hooks`; writes adapters only under the given folder, each file atomically. A run
that finds checkpoints there goes on from the newest as if it had never stopped.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    Interrupted,
    LossExploded,
    LossNotFinite,
    MemoryRunsOut,
    NoTrainingRows,
    SharedWorkLost,
    StudioError,
)
from mlx_finetuning.files import JsonObject
from mlx_finetuning.jobs.results import Check, TrainResult
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches import batches, row_warnings
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.gradient import backward, objectives
from mlx_finetuning.mlx_trainer.gradient.judged import Judged
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.gradient.skipped_work import LowerOutputs
from mlx_finetuning.mlx_trainer.kernels import backend, cpu
from mlx_finetuning.mlx_trainer.model import adapters, trainable, unpacking
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.training import (
    checkpoints,
    memory_fit,
    optimizer,
    replay,
    samples,
    selfcheck,
)
from mlx_finetuning.mlx_trainer.training.checkpoints import TrainingState
from mlx_finetuning.mlx_trainer.training.memory_watch import MemoryWatch
from mlx_finetuning.mlx_trainer.training.time_left import TimeLeft
from mlx_finetuning.progress import Progress, Step, WriteEvent
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.workspace import AdapterPaths

STAGE = N_("学習", "job")
VALIDATION = N_("検証", "loss")
REHEARSAL = N_("メモリーの確認")
UNPACKED_JA = N_(
    "量子化された重みを、学習の間は32ビットに展開して使います（値は同じで、CPUでは数倍速くなります）。"
)
PACKED_JA = N_(
    "量子化された重みを展開するとメモリーの半分を超えるため、そのまま使います。"
    "CPUでは数倍の時間がかかります。"
)
REPLAY_DRAWS = 1 << 16
"""Part of a seed: tells the draws of what is replayed from those of an update's parts."""


@dataclass(frozen=True)
class Hooks:
    """Who hears of a run: its log, its events, its progress."""

    record: Callable[[Mapping[str, float]], None]
    """Takes each line of `metrics.jsonl`."""
    event: WriteEvent
    progress: Progress
    rewind: Callable[[int], None] = lambda update: None
    """Told, before a resumed run goes on, that metrics and samples after this update are void."""
    sample: Callable[[Mapping[str, object]], None] | None = None
    """Takes each line of `samples.jsonl`; None if nobody wants sample answers."""


@dataclass(frozen=True)
class Parent:
    """A finished run that is continued."""

    paths: AdapterPaths
    same_optimizer: bool
    """Whether its optimizer's state is of the kind that the new run has."""


@dataclass(frozen=True)
class Shared:
    """What runs on one loaded base, one after the other, need not compute again."""

    outputs: LowerOutputs = field(default_factory=LowerOutputs)
    references: dict[int, dict[tuple[int, ...], NDArray[np.float32]]] = field(default_factory=dict)
    """Of replayed examples, by the adapter's rank and their tokens, as `replay.with_reference` finds them:
    an adapter that changes nothing yet changes last digits, by how wide it is."""


def train(
    loaded: LoadedModel,
    train_rows: Sequence[Row],
    valid_rows: Sequence[Row],
    config: TrainConfig,
    paths: AdapterPaths,
    hooks: Hooks,
    replayed: Sequence[Example] = (),
    parent: Parent | None = None,
    *,
    rehearsed: bool = False,
    shared: Shared | None = None,
) -> TrainResult:
    """Train an adapter on `train_rows` and leave it in `paths.folder` (the last one) and
    `paths.best` (the one with the lowest validation loss).

    replayed: learned beside the rows, as many an update as `config.replay` says; parent: the finished
    run that this one continues; rehearsed: the longest update is computed first, however much memory
    there is; shared: with other runs on this base.

    Goes on from the newest checkpoint in `paths.checkpoints`. Raises NoTrainingRows,
    NothingToLearn, TargetsNotFound, FullNeedsPlainWeights, CheckpointForeign, LossNotFinite,
    LossExploded, RunDoesNotFit, MemoryRunsOut, SharedWorkLost, DiskFull, Interrupted.
    """
    config = objectives.settled(config, train_rows)
    objective = objectives.of(config)
    examples = objective.encode(loaded, train_rows, config, train_rows)
    held_out = objective.encode(loaded, valid_rows, config, train_rows)
    if not examples:
        raise NoTrainingRows()
    limit = min(config.max_length, loaded.context_length)
    cut_answers = _cut_answers(train_rows, examples)
    for text in (
        *row_warnings.lost_ends(cut_answers, len(train_rows), limit),
        *row_warnings.of_texts(loaded, train_rows),
        *filter(None, [objective.warning(examples, config)]),
    ):
        hooks.event("warning", text=text)
    cpu.keep_freed_memory()
    if config.epochs:
        updates = config.epochs * len(examples) / min(config.batch_size, len(examples))
        config = dataclasses.replace(config, iterations=math.ceil(updates))
    mx.random.seed(config.seed)
    was_packed = unpacking.is_packed(loaded.model)
    adapter_config = adapters.attach(loaded.model, config)
    if was_packed and mx.default_device() == mx.cpu:
        still = unpacking.is_packed(loaded.model)
        hooks.event("warning" if still else "unpacked", text=_(PACKED_JA if still else UNPACKED_JA))
    identity = checkpoints.identity(config, examples, held_out, loaded.folder, replayed)
    layout = workload.batch_layout(loaded.model, len(loaded.tokenizer.vocab), config)
    # Asked of the untrained model, as what is replayed, so before a checkpoint is restored.
    examples, held_out = (
        objective.with_reference(loaded.model, items, config.batch_size, layout, hooks.progress)
        for items in (examples, held_out)
    )
    shared = shared or Shared()
    known = shared.references.setdefault(config.rank, {})
    replayed = replay.with_reference(loaded, replayed, layout, hooks.progress, known)
    run = _Run(
        workload.Workload(loaded, examples, layout, config, replayed, shared.outputs),
        held_out,
        samples.questions(train_rows, valid_rows),
        _Files(paths, adapter_config, identity),
        hooks,
        cut_answers,
        parent,
    )
    if not objective.is_per_item and config.supervise == "answers":
        run.check(selfcheck.supervision(loaded, train_rows, examples))
    return run.go(rehearsed=rehearsed)


def reads_later(config: TrainConfig) -> bool:
    """Whether an update's figures wait for the next one to be queued: on a GPU, which need not idle then;
    not of all weights, which would be held once more."""
    return mx.default_device() != mx.cpu and config.method != "full"


def _cut_answers(rows: Sequence[Mapping[str, Any]], examples: Sequence[Item]) -> int:
    """Rows of which an answer's end does not fit, or of which nothing is left."""
    left = {example.row for example in examples}
    cut = {example.row for example in examples if example.loses_end}
    numbers = [int(row.get("row", 0)) for row in rows]
    return sum(number in cut or number not in left for number in numbers)


@dataclass(frozen=True)
class _Files:
    """Where a run writes, and what its files say of it."""

    paths: AdapterPaths
    adapter_config: JsonObject
    identity: checkpoints.Identity
    """Of settings, examples and base weights: a checkpoint of another run is refused."""


@dataclass(frozen=True)
class _Sound:
    """Arrays that last gave a sound loss; they never change in place, so keeping them is no copy."""

    trained: dict[str, mx.array]
    optimizer_state: Any


@dataclass(frozen=True)
class _Queued:
    """An update that is handed to the device, and what it will say of itself."""

    number: int
    team: workload.Team
    began_s: float
    before: _Sound
    examples: Sequence[Item]
    loss: mx.array
    """Summed, and behind it the marks, if there are any."""
    replayed: Sequence[Item]
    replay_loss: mx.array | None
    """Summed over what is replayed; None without any."""
    norm: mx.array
    learning_rate: mx.array


class _Run:
    """A run from its first or next update to its last one."""

    def __init__(
        self,
        work: workload.Workload,
        held_out: Sequence[Item],
        questions: Sequence[Mapping[str, Any]],
        files: _Files,
        hooks: Hooks,
        cut_answers: int,
        parent: Parent | None,
    ) -> None:
        loaded, config = work.loaded, work.config
        self._loaded = loaded
        self._model = loaded.model
        self._work = work
        self._config = config
        self._files = files
        self._hooks = hooks
        self._questions = questions
        self._cut_answers = cut_answers
        self._parent = parent
        self._held_out = held_out
        held_out_batches = sum(1 for __ in batches.once(held_out, config.batch_size, work.layout))
        self._time_left = TimeLeft(config, held_out_batches)
        self._guess_loss = math.log(max(2, len(loaded.tokenizer.vocab)))
        """Nats per token of a model that knows nothing."""
        self._optimizer = optimizer.build(config)
        self._optimizer.init(self._model.trainable_parameters())
        self._untrained = trainable.of(self._model).arrays()
        self._state = TrainingState(computed_by=backend.libraries())
        self._resumed_from: int | None = None
        self._sound: _Sound | None = None
        self._queued: _Queued | None = None
        self._reads_later = reads_later(config)
        self._read_s = 0.0
        """When the last update's figures were read."""
        self._checks: list[Check] = []
        self._stopped_early = False
        self._memory = MemoryWatch(config, hooks.event)
        self._began_s = self._saved_s = time.monotonic()

    # --- the whole -----------------------------------------------------------------------

    def go(self, *, rehearsed: bool) -> TrainResult:
        self._resume()
        is_resumed = self._resumed_from is not None
        if not is_resumed:
            self._hooks.progress(Step(_(REHEARSAL), 0, 0))
        self._work = self._memory.fit(
            self._work, self._state, is_resumed=is_resumed, exactly=rehearsed
        )
        with (
            tempfile.TemporaryDirectory() as scratch,
            workload.start_team(self._work, Path(scratch)) as team,
        ):
            if rehearsed or self._memory.is_near:
                self._rehearse(team)
            self._began_s = self._saved_s = time.monotonic() - self._state.elapsed_s
            try:
                self._updates(team)
                self.check(selfcheck.ranks(team.agree()))
            except (Interrupted, MemoryRunsOut, SharedWorkLost):
                self._checkpoint()
                raise
            self._model.eval()
            folder = self._files.paths.folder
            self._save(folder)
            checkpoints.save_optimizer(self._files.paths.optimizer, self._optimizer)
            prompt = list(self._work.examples[0].tokens)
            self.check(selfcheck.reloaded(self._loaded, folder, prompt))
            return self._result(team)

    def _resume(self) -> None:
        newest = checkpoints.latest(self._files.paths.checkpoints)
        if newest is None:
            self._hooks.rewind(-1)
            if self._parent is not None:
                self._start_from(self._parent)
            return
        self._state = checkpoints.restore(
            newest, self._model, self._optimizer, self._files.identity
        )
        self._resumed_from = self._state.update
        self._hooks.rewind(self._state.update)
        self._hooks.event("resumed", update=self._state.update)
        before, self._state.computed_by = self._state.computed_by, backend.libraries()
        if before not in ("", self._state.computed_by):
            text = _(
                "途中保存の後で、計算に使うライブラリーが変わりました（前: {before}、今: {computed_by}）。"
                "続けられますが、中断しなかった場合とは、結果の最後の桁が変わることがあります。"
            ).format(before=before, computed_by=self._state.computed_by)
            self._hooks.event("warning", text=text)

    def _start_from(self, parent: Parent) -> None:
        has_state = checkpoints.start_from(
            parent.paths, self._model, self._optimizer, same_optimizer=parent.same_optimizer
        )
        self._untrained = trainable.of(self._model).arrays()
        self._hooks.event("continues", run_id=parent.paths.folder.name, optimizer=has_state)
        if not has_state:
            text = _("元の学習のオプティマイザーの状態は使えないため、重みだけを引き継ぎます。")
            self._hooks.event("warning", text=text)

    def _rehearse(self, team: workload.Team) -> None:
        """The longest update, for nothing but its memory: what does not fit fails now, and later
        updates find all the memory they need in place."""
        self._hooks.progress(Step(_(REHEARSAL), 0, 0))
        self._model.train()
        for examples in self._work.worst_parts():
            self._sums(team, examples, (self._config.seed, 0)).waited_for()
        peak_gb = round(team.peak_memory() / 1e9, 3)
        self._hooks.event("rehearsed", peak_memory_gb=peak_gb)

    def _sums(
        self, team: workload.Team, examples: Sequence[Item], seed: tuple[int, ...]
    ) -> backward.Sums:
        """Over all examples of an update, computed in as many parts as memory asks for."""
        first, *rest = memory_fit.parts(examples, self._state.micro_batch_size)
        total = team.sums(first, seed)
        for part, some in enumerate(rest, 1):
            total = backward.added(total, team.sums(some, (*seed, part)))
        return total

    def check(self, check: Check | None) -> None:
        if check is not None:
            self._checks.append(check)
            self._hooks.event("check", **dataclasses.asdict(check))

    def _updates(self, team: workload.Team) -> None:
        config, state = self._config, self._state
        order = batches.endless(
            len(self._work.examples), config.batch_size, config.seed, start=state.update
        )
        while True:
            if self._is_due(config.validate_every, state.validated) and self._held_out:
                self._validate()
            if state.update and self._is_due(config.sample_every, state.sampled):
                self._sample(state.update)
            if state.update >= config.iterations:
                self._read()
                return
            if config.patience and state.without_gain >= config.patience:
                self._stopped_early = True
                self._hooks.event("stopped_early", update=state.update, best=state.best_update)
                return
            waited_s, minutes = time.monotonic() - self._saved_s, config.checkpoint_minutes
            is_due = state.update % config.checkpoint_every == 0
            is_due = is_due or bool(minutes and waited_s >= 60 * minutes)
            if is_due and state.update not in (0, self._resumed_from):
                self._checkpoint()
            indices = next(order)
            examples = [self._work.with_slot(index) for index in indices]
            again = self._work.replay_indices(state.update)
            replayed = [self._work.with_slot(index) for index in again]
            began_s = time.monotonic()
            self._update(team, examples, replayed)
            self._time_left.updated(time.monotonic() - began_s)
            if state.update == 1 and config.sample_every:
                self._sample_untrained()
            self._work.stored([*indices, *again])
            if state.update == min(selfcheck.AFTER, config.iterations):
                self.check(selfcheck.changed(self._untrained, trainable.of(self._model).arrays()))
            detail, left_s = (
                _("損失 {loss:.3f}").format(loss=state.last_loss),
                self._time_left.left_s(state.update),
            )
            self._hooks.progress(
                Step(_(STAGE, "job"), state.update, config.iterations, detail, left_s)
            )
            self._memory.look(team, state)

    def _sample(self, update: int) -> None:
        if self._hooks.sample is None:
            return
        self._read()
        self._model.eval()
        began_s = time.monotonic()
        for line in samples.answers(self._loaded, self._questions, update):
            self._hooks.sample(line)
        self._state.sampled = update
        self._time_left.sampled(time.monotonic() - began_s)

    def _sample_untrained(self) -> None:
        """What it answered before the first update: asked behind it, because people wait for that one."""
        arrays = trainable.of(self._model)
        trained = arrays.arrays()
        assert self._sound is not None  # an update was made
        arrays.put(self._sound.trained)
        self._sample(0)
        arrays.put(trained)

    def _is_due(self, every: int, last: int) -> bool:
        """Whether what is done each `every` updates (0 for never), and at the end, is due now."""
        update = self._state.update
        if not every or update == last:
            return False
        return update % every == 0 or update == self._config.iterations

    def _result(self, team: workload.Team) -> TrainResult:
        state = self._state
        return TrainResult(
            updates=state.update,
            train_rows=len(self._work.examples),
            valid_rows=len(self._held_out),
            cut_rows=sum(example.cut > 0 for example in self._work.examples),
            cut_answers=self._cut_answers,
            supervised_tokens=state.supervised,
            first_valid_loss=state.first_valid,
            last_valid_loss=state.last_valid,
            best_valid_loss=state.best_valid,
            best_update=state.best_update,
            last_loss=state.last_loss,
            peak_memory_gb=round(team.peak_memory() / 1e9, 3),
            card_memory_gb=self._memory.card_memory_gb,
            elapsed_s=self._elapsed_s,
            micro_batch_size=state.micro_batch_size,
            recompute=state.recompute == "on",
            checks=tuple(self._checks),
            processes=state.processes,
            padded=not self._work.layout.shares_sequence,
            objective=self._config.objective,
            resumed_from=self._resumed_from,
            stopped_early=self._stopped_early,
            replayed=len(self._work.replayed),
        )

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    # --- one update ----------------------------------------------------------------------

    def _update(
        self, team: workload.Team, examples: Sequence[Item], replayed: Sequence[Item]
    ) -> None:
        """One step. On a GPU its figures are read when the next one is queued behind it, so that the GPU
        need not wait for us in between."""
        state, config = self._state, self._config
        number, began_s = state.update + 1, time.monotonic()
        arrays = trainable.of(self._model)
        before = _Sound(arrays.arrays(), self._optimizer.state)
        examples = self._with_drift(examples)
        if not self._model.training:  # a walk over all modules, that most updates need not take
            self._model.train()
        sums = self._sums(team, examples, (config.seed, number))
        state.processes = team.processes
        weight = sum(example.weight for example in examples)
        replay_loss = None
        if replayed:
            again = self._sums(team, replayed, (config.seed, number, REPLAY_DRAWS))
            count = sum(example.weight for example in replayed)
            replay_loss = again.loss
            sums = backward.beside(sums, again, config.replay_weight * weight / count)
        gradients, norm = optimizer.clipped(sums.gradients, weight, config.gradient_clip)
        self._optimizer.learning_rate = optimizer.learning_rate(config, number)
        optimizer.apply(self._optimizer, self._model, gradients, config)
        queued = _Queued(
            number,
            team,
            began_s,
            before,
            examples,
            sums.loss,
            replayed,
            replay_loss,
            norm,
            self._optimizer.learning_rate,
        )
        evaluate: Any = mx.async_eval if self._reads_later else mx.eval
        evaluate(arrays.stored(), self._optimizer.state, sums.loss, replay_loss, norm)
        self._read()  # of the one before
        self._queued, state.update = queued, number
        if not self._reads_later or self._sound is None:  # people wait for the first one
            self._read()

    def _read(self) -> None:
        """Look at the figures of the update that was queued last, if nobody has, and write them down.
        Raises LossNotFinite, LossExploded."""
        queued, self._queued = self._queued, None
        if queued is None:
            return
        state, number, examples = self._state, queued.number, queued.examples
        weight = sum(example.weight for example in examples)
        value, *marks = (total / weight for total in backward.numbers(queued.loss))
        norm = float(cast(float, queued.norm.item()))
        self._require_sound(value, norm, number, examples)
        # A finite loss vouches for the weights it was computed with.
        self._sound = queued.before
        named = objectives.named(marks)
        if isinstance(examples[0], Judged):
            named["drift"] = examples[0].drift
        if queued.replay_loss is not None:
            count = sum(example.weight for example in queued.replayed)
            named["replay_loss"] = backward.numbers(queued.replay_loss)[0] / count
        state.last_loss = value
        state.first_loss = value if state.first_loss is None else state.first_loss
        supervised = sum(example.targets for example in examples)
        state.supervised += supervised
        began_s, self._read_s = max(queued.began_s, self._read_s), time.monotonic()
        self._hooks.record(
            {
                "update": number,
                "loss": value,
                "learning_rate": float(cast(float, queued.learning_rate.item())),
                "gradient_norm": norm,
                "tokens": sum(len(example.tokens) for example in examples),
                "supervised_tokens": supervised,
                "tokens_per_second": round(supervised / (self._read_s - began_s), 1),
                "peak_memory_gb": round(queued.team.peak_memory() / 1e9, 3),
                **self._memory.card_figures(),
                **named,
                "elapsed_s": round(self._elapsed_s, 3),
            }
        )

    def _with_drift(self, examples: Sequence[Item]) -> Sequence[Item]:
        at_once, objective = self._state.micro_batch_size, objectives.of(self._config)
        return objective.with_drift(self._model, examples, at_once, self._work.layout)

    def _require_sound(
        self, value: float, norm: float, update: int, examples: Sequence[Item]
    ) -> None:
        """Raises LossNotFinite, LossExploded, after the last sound weights were saved."""
        rows = [example.row for example in examples]
        first = value if self._state.first_loss is None else self._state.first_loss
        problem: StudioError
        if not (math.isfinite(value) and math.isfinite(norm)):
            problem = LossNotFinite(update=update, rows=rows)
        elif value > 2 * self._guess_loss and value > 3 * first:
            problem = LossExploded(
                update=update, rows=rows, loss=round(value, 3), first_loss=round(first, 3)
            )
        else:
            return
        self._hooks.event("unsound", update=update, rows=rows)
        if self._sound is not None:
            trainable.of(self._model).put(self._sound.trained)
            self._optimizer.state = self._sound.optimizer_state
            self._save(self._files.paths.folder)
        raise problem

    def _save(self, folder: Path) -> None:
        adapters.save(self._model, self._files.adapter_config, folder, self._loaded.chat)

    # --- validation and checkpoints ------------------------------------------------------

    def _validate(self) -> None:
        self._read()
        state = self._state
        self._model.eval()
        sums, count, began_s = np.zeros(1), 0, time.monotonic()
        held_out = self._with_drift(self._held_out)
        found = list(batches.once(held_out, self._config.batch_size, self._work.layout))
        for number, batch in enumerate(found):
            self._time_left.validated(number, time.monotonic() - began_s)
            left_s = self._time_left.left_s(state.update, len(found) - number)
            # A stop here leaves the validation undone; a resumed run begins with it.
            self._hooks.progress(Step(_(VALIDATION, "loss"), number, len(found), "", left_s))
            sums = sums + backward.loss_and_marks(self._model, batch, self._config)
            count += batch.supervised
        self._time_left.validated(len(found), time.monotonic() - began_s)
        value, *marks = cast(list[float], (sums / count).tolist())
        state.validated = state.update
        state.first_valid = value if state.first_valid is None else state.first_valid
        state.last_valid = value
        line = {"update": state.update, "valid_loss": value}
        line |= objectives.named(marks, "valid_")
        self._hooks.record({**line, "elapsed_s": round(self._elapsed_s, 3)})
        state.without_gain += 1
        if state.best_valid is None or value < state.best_valid:
            state.best_valid, state.best_update, state.without_gain = value, state.update, 0
            self._save(self._files.paths.best)

    def _checkpoint(self) -> None:
        self._read()
        self._state.elapsed_s = self._elapsed_s
        checkpoints.save(
            self._files.paths.checkpoints,
            self._model,
            self._files.adapter_config,
            self._loaded.chat,
            self._optimizer,
            self._state,
            self._files.identity,
        )
        self._saved_s = time.monotonic()
        self._hooks.event("checkpoint", update=self._state.update)
