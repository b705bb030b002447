"""Trials of a tuning: ordinary runs, trained one after the other in this process on one loaded base.

Each has its folder, its lock and its record, as if a worker of its own had trained it; its answers
are scored while its adapter is still attached. What is scored are held-out rows, never the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlx_finetuning import files
from mlx_finetuning.config import EvaluateConfig, TrainConfig, as_dict
from mlx_finetuning.errors import Interrupted, LossExploded, LossNotFinite, StudioError
from mlx_finetuning.experiment_tracker.evaluation import questions, trial_scores
from mlx_finetuning.experiment_tracker.evaluation.general_questions import GeneralQuestion
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.reporter import Reporter
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.inference import grade
from mlx_finetuning.mlx_trainer.inference.grade import Grade
from mlx_finetuning.mlx_trainer.model import adapter_layers
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.training.loop import Shared
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tasks import general_set, train
from mlx_finetuning.tokenization.rows import Row
from mlx_finetuning.tuning import Score

SCORED, GENERAL = 64, 24
"""Held-out rows, and known general questions, that a trial is asked at most."""
OFFERED = 40
"""General questions of a language that the base is asked, to find those that it knows."""
LEAST_ROWS = 8
"""Held-out rows below which trained questions are asked too, in other words made mechanically."""
WORST_LOSS = 99.0
"""Of a run that broke; JSON has no infinity."""
SPARE_TOKENS = 16
"""Of an answer, beyond the longest one that is expected."""
ASKED_JA, GENERAL_JA = N_("答え合わせ"), N_("一般の質問")


@dataclass(frozen=True)
class Bench:
    """What every trial shares: the base, loaded once, the rows, and the questions that it is scored by."""

    context: TaskContext
    loaded: LoadedModel
    train_rows: Sequence[Row]
    valid_rows: Sequence[Row]
    goal: str
    asked: Sequence[Row]
    """Held-out rows that trials are scored by."""
    shared: Shared = field(default_factory=Shared)
    known: Sequence[GeneralQuestion] = ()
    """General questions that the base answers rightly."""

    def score(self, progress: Progress) -> Score:
        """Of the model as it is now, adapter and all."""
        graded = self._graded(self.asked, self._limits(self.asked), progress, _(ASKED_JA))
        rows = [question.row for question in self.known]
        general = self._graded(rows, EvaluateConfig(max_tokens=48), progress, _(GENERAL_JA))
        pairs = zip(self.known, general, strict=True)
        return Score(
            rows=tuple(trial_scores.of_rows(self.goal, self.asked, graded)),
            kept=tuple(float(question.is_right(one.answer)) for question, one in pairs),
            loss=sum(one.nats for one in graded) / max(sum(one.targets for one in graded), 1),
        )

    def _graded(
        self, rows: Sequence[Row], limits: EvaluateConfig, progress: Progress, stage: str
    ) -> list[Grade]:
        if not rows:
            return []
        self.loaded.model.eval()
        layout = grade.batch_layout(self.loaded)
        return grade.grade(self.loaded, rows, limits, progress, stage, layout=layout, ask=True)

    def _limits(self, rows: Sequence[Row]) -> EvaluateConfig:
        answers = [str(row["messages"][-1]["content"]) for row in rows if row.get("messages")]
        longest = max((len(self.loaded.chat.encode(text)) for text in answers), default=0)
        return EvaluateConfig(max_tokens=min(longest + SPARE_TOKENS, EvaluateConfig.max_tokens))

    def general(self, progress: Progress) -> list[GeneralQuestion]:
        """The general questions that the base answers, a few of them, spread over all."""

        def asked(some: Sequence[GeneralQuestion]) -> list[Grade]:
            rows = [question.row for question in some]
            return self._graded(rows, EvaluateConfig(max_tokens=48), progress, _(GENERAL_JA))

        if self.loaded.chat.template is None:
            return []
        found = general_set.of_base(asked, OFFERED)
        pairs = zip(found.questions, found.base, strict=True)
        known = [question for question, one in pairs if question.is_right(one.answer)]
        return questions.evenly(known, GENERAL)

    def run(self, settings: TrainConfig, run_id: str, progress: Progress) -> Score:
        """Train a run to its end, or on from where it was stopped, and score it.

        One whose loss explodes has answered nothing. The base is as it was afterwards. Raises what
        else training raises, and Interrupted.
        """
        paths = self.context.workspace.run(run_id)
        lock = jobs.take_up(paths)
        if lock is None:
            raise Interrupted()  # somebody else has taken it up
        try:
            reporter = Reporter(paths)
            try:
                return self._trained(settings, run_id, reporter, progress)
            except Interrupted:
                reporter.finish(JobState.CANCELLED)
                raise
            except StudioError as error:
                reporter.finish(JobState.FAILED, error)
                if isinstance(error, LossExploded | LossNotFinite):
                    nothing = (0.0,) * len(self.asked), (0.0,) * len(self.known)
                    return Score(*nothing, loss=WORST_LOSS)
                raise
        finally:
            adapter_layers.detach(self.loaded)
            lock.release()

    def _trained(
        self, settings: TrainConfig, run_id: str, reporter: Reporter, progress: Progress
    ) -> Score:
        def told(step: Step) -> None:
            reporter.progress(step)
            progress(step)

        workspace, paths = self.context.workspace, self.context.workspace.run(run_id)
        reporter.start()
        own = TaskContext(workspace, paths, run_id, as_dict(settings), told, reporter.event)
        result = train.learn(
            own, settings, self.loaded, self.train_rows, self.valid_rows, self.shared
        )
        files.write_json(paths.result, as_dict(result))
        score = self.score(told)
        reporter.finish(JobState.DONE)
        return score
