"""Tuning: a few short runs find the settings, then one is trained with them to its end.

The plan is made once and kept beside the trials (`plan.json`, `trials.jsonl`), so that a tuning which
was stopped or killed goes on with the trial it was in. Only how many trials fit depends on the clock,
and what it decided is kept as well.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import bases, config, files, tuning
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import InvalidSettings, RunDoesNotFit
from mlx_finetuning.experiment_tracker.evaluation import questions
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import TriedChoice, Tuned
from mlx_finetuning.language import N_, _, sentences
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.tuning import Choice, Plan, Score, Speed, Trial
from mlx_finetuning.utils import goals

if TYPE_CHECKING:
    from mlx_finetuning.mlx_trainer.batches.examples import Example
    from mlx_finetuning.tasks.trials import Bench

MEASURING = N_("速さの測定")
REPLAY_FROM_S = 240.0
"""Time that was asked for from which it is worth to let a base that replays nothing by itself speak."""
MEASURED_ROWS = 32
"""Rows by whose length the cost of replay is told."""
STAGES_JA = {
    0.25: N_("4分の1の長さで比べる"),
    0.5: N_("半分の長さで比べる"),
    1.0: N_("最後まで学習する"),
}
"""By the share of the updates: one for each of `tuning.RUNGS`, and the last runs."""


@dataclass(frozen=True)
class Started:
    """A trial that has its run: a line of `trials.jsonl`, before the trial's own."""

    number: int
    share: float
    started: str
    """The run's id."""
    updates: int = 0
    """In the end; 0 in records of older versions: as the plan says."""


@dataclass(frozen=True)
class TimeUp:
    """What the clock decided: a line of `trials.jsonl`."""

    time_up_after: int
    """Trials that were done by then."""


class Record:
    """`plan.json` and `trials.jsonl` of a tuning, in its job's folder."""

    def __init__(self, folder: Path) -> None:
        self._plan, self._log = folder / "plan.json", folder / "trials.jsonl"

    def plan(self) -> Plan | None:
        """The plan, once there is one."""
        with contextlib.suppress(FileNotFoundError):
            return files.read_record(self._plan, Plan)
        return None

    def keep_plan(self, plan: Plan) -> None:
        """Raises DiskFull."""
        files.write_json(self._plan, asdict(plan))

    def trials(self) -> list[Trial]:
        """Those that are done, in their order."""
        return list(files.read_records(self._log, Trial))

    def started(self, number: int, share: float) -> Started | None:
        """A trial that was begun."""
        lines = files.read_records(self._log, Started)
        return next((one for one in lines if (one.number, one.share) == (number, share)), None)

    def is_time_up(self, done: int) -> bool:
        """Whether the clock ended the comparison after so many trials."""
        return any(one.time_up_after == done for one in files.read_records(self._log, TimeUp))

    def append(self, line: Trial | Started | TimeUp) -> None:
        """Raises DiskFull."""
        with contextlib.closing(files.LineLog(self._log)) as log:
            log.append(asdict(line))


def run(context: TaskContext) -> Tuned:
    """config: `settings` (TrainConfig: the usual ones), `seconds`, `goal`, and `journey`: what おまかせ
    is to make of the last run (as for `tasks.auto`), or nothing.

    Raises InvalidSettings, DataError, ModelError, RunError, DiskFull, Interrupted.
    """
    from mlx_finetuning import mlx_trainer

    mlx_trainer.for_training()
    with tempfile.TemporaryDirectory() as scratch:
        tuned = _begun(context, Path(scratch)).go()
    journey, later = context.config.get("journey"), runs.later_jobs(context.workspace, tuned.run_id)
    if journey and not any(job.kind == "auto" for job in later):
        runs.start_later_job(context.workspace, tuned.run_id, "auto", journey)
    return tuned


def _begun(context: TaskContext, scratch: Path) -> _Tuning:
    """With the base loaded, and the plan made unless an earlier sitting did; scratch: a folder for what
    trials share."""
    from mlx_finetuning.mlx_trainer.gradient.skipped_work import LowerOutputs
    from mlx_finetuning.mlx_trainer.training.loop import Shared
    from mlx_finetuning.tasks import train, trials

    settings = config.load(TrainConfig, context.config["settings"])
    record = Record(context.paths.folder)
    plan = record.plan()
    earlier_s = sum(trial.seconds for trial in record.trials())
    began_s = time.monotonic() - earlier_s - (plan.speed.spent_s if plan else 0.0)
    model = bases.resolve(settings.model, context.workspace)
    train_rows, valid_rows = train.read_splits(context, settings.dataset)
    context.progress(Step(_("モデルの読み込み"), 0, 0))
    loaded = train.load_for(train_rows, model, settings)
    asked, goal = _held_out(train_rows, valid_rows), str(context.config["goal"])
    shared = Shared(LowerOutputs(scratch))
    bench = trials.Bench(context, loaded, train_rows, valid_rows, goal, asked, shared)
    bench = replace(bench, known=bench.general(context.progress))
    if plan is None:
        plan = _planned(bench, settings, began_s)
        record.keep_plan(plan)
    return _Tuning(bench, settings, model, record, plan, began_s)


def _held_out(train_rows: Sequence[Row], valid_rows: Sequence[Row]) -> list[Row]:
    from mlx_finetuning.mlx_trainer.inference import grade
    from mlx_finetuning.tasks import trials

    shown = [row for row in valid_rows if grade.is_question(row) or "text" in row]
    rows = questions.evenly(shown, trials.SCORED)
    if len(rows) < trials.LEAST_ROWS:
        taught = [row for row in train_rows if grade.is_question(row)]
        rows += questions.evenly(questions.reworded(taught), trials.SCORED - len(rows))
    if not rows:
        problem = _("dataset: 比べるための、教えていない行がありません。")
        raise InvalidSettings(problems=[problem])
    return rows


def _planned(bench: Bench, settings: TrainConfig, began_s: float) -> Plan:
    """From the speed of a few updates, which also show that the run fits."""
    from mlx_finetuning.mlx_trainer.model import adapter_layers
    from mlx_finetuning.mlx_trainer.parallel import workload
    from mlx_finetuning.mlx_trainer.training import estimate

    context = bench.context
    context.progress(Step(_(MEASURING), 0, 0))
    seconds = float(context.config["seconds"])
    usual = _self_answers(bench, settings)
    replayed = min(workload.REPLAYED, len(usual))
    replay, said = None, usual
    # Whoever set a number has chosen; and what was never known cannot be kept.
    is_open = settings.replay < 0 and bench.known
    if is_open and (usual or seconds >= REPLAY_FROM_S):
        said = usual or _self_answers(bench, replace(settings, replay=workload.REPLAYED))
        replay = replayed + workload.REPLAYED if said else None
    before_s = time.monotonic()
    found = estimate.estimate(
        *(bench.loaded, bench.train_rows, bench.valid_rows),
        *(replace(settings, sample_every=0), context.progress, usual),
    )
    if not found.fits:
        raise RunDoesNotFit(
            needed_gb=found.peak_memory_gb,
            available_gb=found.available_gb,
            batch_size=found.batch_size,
            largest=found.largest_batch_size,
        )
    adapter_layers.detach(bench.loaded)
    validations = 1 + -(-found.updates // settings.validate_every)
    validation_s = (found.total_s - found.updates * found.seconds_per_update) / validations
    measured_s = time.monotonic() - before_s
    before_s = time.monotonic()
    bench.score(context.progress)
    update_s = max(found.seconds_per_update, 1e-4)
    # One more than are counted, of which there are two at least: the longest comes first, for its memory.
    updates_s = max(min((estimate.UPDATES + 1) * update_s, estimate.SECONDS), 3 * update_s)
    speed = Speed(
        update_s=update_s,
        score_s=round(time.monotonic() - before_s, 3),
        validation_s=round(validation_s, 3),
        start_s=round(max(measured_s - updates_s - validation_s, 0.0), 3),
        spent_s=round(time.monotonic() - began_s, 3),
        replayed=replayed,
        replayed_s=round(update_s * _share_of_update(bench, settings, said), 5),
    )
    rewords = bench.goal in goals.COUNTED
    return tuning.plan(settings, seconds, speed, rewords=rewords, replay=replay)


def _self_answers(bench: Bench, settings: TrainConfig) -> Sequence[Example]:
    """What a run with these settings replays."""
    from mlx_finetuning.mlx_trainer.training import replay

    cache, progress = bench.context.workspace.self_answers, bench.context.progress
    said = replay.prepare(bench.loaded, bench.train_rows, settings, cache, None, progress)
    return said.examples


def _share_of_update(bench: Bench, settings: TrainConfig, said: Sequence[Example]) -> float:
    """Of a replayed example's tokens in those of an update of rows."""
    from mlx_finetuning.mlx_trainer.batches import examples

    rows = questions.evenly(bench.train_rows, MEASURED_ROWS)
    lengths = [
        len(one.tokens)
        for row in rows
        for one in examples.sequences(bench.loaded, row, settings.supervise)
    ]
    update = settings.batch_size * sum(lengths) / max(len(rows), 1)
    return sum(len(one.tokens) for one in said) / len(said) / update if said and update else 0.0


@dataclass(frozen=True)
class _Tuning:
    """A tuning from its first trial, or the one it was stopped in, to its result."""

    bench: Bench
    settings: TrainConfig
    """The usual ones."""
    model: Path
    record: Record
    plan: Plan
    began_s: float
    """As if it had been done in one sitting."""

    @property
    def _spent_s(self) -> float:
        return time.monotonic() - self.began_s

    def go(self) -> Tuned:
        """Raises what training raises, and Interrupted."""
        self._halve()
        trained = self._finalists()
        final = tuning.winner(trained, self.settings.seed)
        return self._result(final, trained)

    def _halve(self) -> None:
        """Compare, and let the better half go on, until it is settled or the time is up."""
        left = list(range(len(self.plan.short)))
        for share in self.plan.rungs:
            if len(left) == 1:
                return
            rung = []
            for number in left:
                if self._is_time_up(number, share):
                    return
                rung.append(self._trial(number, share))
            if tuning.is_settled(rung, self.settings.seed):
                return
            best = tuning.ranked(rung)[: tuning.survivors_of(len(rung))]
            left = sorted(trial.number for trial in best)

    def _is_time_up(self, number: int, share: float, late: float = 1.0) -> bool:
        """Whether another trial would leave too little time for the last run; said once, it stays.

        late: of the time, by when the trial has to end.
        """
        # Last runs come behind all others, and must not change what was said of these.
        done = sum(trial.share <= share or trial.share < 1 for trial in self.record.trials())
        if self.record.is_time_up(done):
            return True
        if self._done(number, share) or not done:
            return False
        plan = self.plan
        last_s = max(plan.trial_s(choice, 1.0) for choice in plan.short) if share < 1 else 0.0
        needed_s = self._pace() * (plan.trial_s(self._choice(number, share), share) + last_s)
        if self._spent_s + needed_s <= late * plan.seconds:
            return False
        self.record.append(TimeUp(done))
        return True

    def _finalists(self) -> list[Trial]:
        """The choices that are trained to the end, the best of those compared first; further ones as long as
        there is time."""
        plan = self.plan
        numbers = list(range(len(plan.short)))
        if plan.rungs:
            numbers = tuning.finalists(self._compared(), plan.finalists, self.settings.seed)
        trained = [self._trial(numbers[0], 1.0)]
        for number in numbers[1:]:
            if self._is_time_up(number, 1.0, tuning.LATE):
                break
            trained.append(self._trial(number, 1.0))
        compared = [trial for trial in self._compared() if trial.share]
        while (more := tuning.further(plan, compared, trained)) is not None:
            if self._is_time_up(more, 1.0):
                break
            trained.append(self._trial(more, 1.0))
        return trained

    def _pace(self) -> float:
        """What trials took, in multiples of what was expected."""
        done = self.record.trials()
        expected = sum(self.plan.trial_s(trial.choice, trial.share) for trial in done)
        return sum(trial.seconds for trial in done) / expected if done and expected else 1.0

    def _compared(self) -> list[Trial]:
        """The trials among which the winner is: of the longest rung that has two, or all there are."""
        done = [trial for trial in self.record.trials() if trial.share < 1]
        for share in reversed(self.plan.rungs):
            rung = [trial for trial in done if trial.share == share]
            if len(rung) > 1 or (rung and share == self.plan.rungs[0]):
                return rung
        usual = Trial(0, self.plan.choices[0], 0.0, "", Score((), (), 0.0), 0.0)
        return done or [usual]

    # --- one trial -----------------------------------------------------------------------

    def _done(self, number: int, share: float) -> Trial | None:
        found = (one for one in self.record.trials() if (one.number, one.share) == (number, share))
        return next(found, None)

    def _trial(self, number: int, share: float) -> Trial:
        """The trial of a choice, done now unless it is done already."""
        if done := self._done(number, share):
            return done
        choice, workspace = self._choice(number, share), self.bench.context.workspace
        settings = choice.settings(self.settings, share)
        begun = self.record.started(number, share)
        if begun is not None and workspace.run(begun.started).folder.is_dir():
            run_id = begun.started
        else:
            draft = runs.prepared(workspace, settings, self.model)
            run_id = draft.job.run_id
            self.record.append(Started(number, share, run_id, choice.updates))
            jobs.create(draft.paths, draft.job, draft.add_files).release()
        began_s = time.monotonic()
        score = self.bench.run(settings, run_id, self._progress(number, choice, share))
        took_s = round(time.monotonic() - began_s, 3)
        trial = Trial(number, choice, share, run_id, score, took_s)
        self.record.append(trial)
        self.bench.context.event(
            "trial", run_id=run_id, text=f"{choice.text}: {score.goal:.0%}", share=share
        )
        return trial

    def _choice(self, number: int, share: float) -> Choice:
        """As planned; where nothing was compared by short trials, with the updates that there is time for."""
        plan = self.plan
        choice = plan.choices[number]
        if (begun := self.record.started(number, share)) and begun.updates:
            return replace(choice, updates=begun.updates)
        if plan.rungs or not 0 < number < len(plan.short):
            return choice
        return tuning.lengthened(plan, choice, (plan.seconds - self._spent_s) / self._pace())

    def _progress(self, number: int, choice: Choice, share: float) -> Progress:
        """Of a trial, told as a step of the whole, with the time that the whole may yet take."""
        plan = self.plan
        stage = _(STAGES_JA[share])
        if share < 1:
            stage = _("設定を探す（{stage}、候補 {number}/{choices}）").format(
                stage=stage, number=number + 1, choices=len(plan.short)
            )
        began_s, expected_s = self._spent_s, self._pace() * plan.trial_s(choice, share)

        def told(step: Step) -> None:
            whole_s = plan.seconds if share < 1 else began_s + expected_s
            left_s = round(max(whole_s - self._spent_s, 0.0), 1)
            detail = "　".join(part for part in (choice.text, step.stage, step.detail) if part)
            self.bench.context.progress(Step(stage, step.done, step.total, detail, left_s))

        return told

    # --- the result ----------------------------------------------------------------------

    def _result(self, final: Trial, trained: Sequence[Trial]) -> Tuned:
        done = self.record.trials()
        return Tuned(
            run_id=final.run_id,
            reason=self._reason(final, trained),
            settings=asdict(final.choice),
            is_usual=final.number == 0,
            goal=final.score.goal,
            forgotten=final.score.forgotten,
            seconds=round(self._spent_s, 1),
            asked_s=self.plan.seconds,
            trials=tuple(
                TriedChoice(
                    run_id=trial.run_id,
                    text=trial.choice.text,
                    share=trial.share,
                    goal=trial.score.goal,
                    forgotten=trial.score.forgotten,
                    loss=trial.score.loss,
                    seconds=trial.seconds,
                )
                for trial in done
            ),
        )

    def _reason(self, final: Trial, trained: Sequence[Trial]) -> str:
        """Why this choice, in plain words."""
        count = len(self.bench.asked)
        parts = [_("選んだ設定は、{text}です。").format(text=final.choice.text)]
        if self.plan.is_cut:
            parts.append(_("時間に収まるように、更新の回数をふだんより減らしました。"))
        usual, chosen, how = self._against_usual(final, trained)
        if chosen is None:
            parts.append(_("比べる時間がなかったので、ふだんの設定のままです。"))
        elif final.number == 0:
            parts.append(_("ほかの設定で、はっきりよくなるものはありませんでした。"))
        elif usual is not None:
            gap = tuning.difference(chosen, usual, self.settings.seed)
            told = (
                _(
                    "教えていない{count}問の出来は、{how}、ふだんの設定の{usual:.0%}に対して{chosen:.0%}でした（確かな差です）。"
                )
                if gap.is_above_zero
                else _(
                    "教えていない{count}問の出来は、{how}、ふだんの設定の{usual:.0%}に対して{chosen:.0%}でした（偶然かもしれない差です）。"
                )
            )
            parts.append(
                told.format(count=count, how=how, usual=usual.score.goal, chosen=chosen.score.goal)
            )
        else:
            parts.append(_("ふだんの設定は、途中の比較で上位半分に残りませんでした。"))
        parts.append(_("最後まで学習したときの出来は{share:.0%}。").format(share=final.score.goal))
        if known := len(self.bench.known):
            lost = round(final.score.forgotten * known)
            parts.append(
                _("前から知っていた{known}問のうち、忘れたのは{lost}問です。").format(
                    known=known, lost=lost
                )
            )
        return sentences(*parts)

    def _against_usual(
        self, final: Trial, trained: Sequence[Trial]
    ) -> tuple[Trial | None, Trial | None, str]:
        """Trials of the usual and of the chosen settings that can be compared, and how long both were."""
        usual = next((one for one in trained if one.number == 0), None)
        if len(trained) > 1 and usual is not None:
            return usual, final, _("最後まで学習して")
        compared = self._compared()
        usual = next((one for one in compared if one.number == 0 and one.share), None)
        chosen = next((one for one in compared if one.number == final.number and one.share), None)
        return usual, chosen, _("同じ短さの学習で")
