"""A tuning's trials are ordinary runs, none of which is lost when it is stopped or killed."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from mlx_finetuning import files, tuning
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import Interrupted, InvalidSettings, TuningNotFound
from mlx_finetuning.jobs import jobs, status
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import Tuned
from mlx_finetuning.jobs.status import JobState
from mlx_finetuning.mlx_trainer.model import adapter_layers
from mlx_finetuning.progress import Step
from mlx_finetuning.studio import Studio
from mlx_finetuning.tasks import train, tune
from mlx_finetuning.tuning import Plan, Speed, Trial
from mlx_finetuning.workspace import JobPaths, Workspace
from support import cut_models
from support.helpers import worker_process, write_facts
from support.sweeps import sweep

USUAL = TrainConfig(
    dataset="facts", iterations=16, batch_size=4, rank=4, sample_every=0, processes=1
)
PLAN = Plan(
    seconds=600.0,
    speed=Speed(0.1, 1.0, 0.1, 0.1, 1.0),
    choices=tuning.choices(USUAL, 3, rewords=True),
)

pytestmark = pytest.mark.usefixtures("few_general")


@dataclass
class Kill:
    """Stops the work in the middle of a stage, as often as it is told."""

    at: str = ""
    steps: list[Step] = dataclasses.field(default_factory=list)

    def __call__(self, step: Step) -> None:
        self.steps.append(step)
        if self.at and self.at in step.stage + step.detail:
            raise Interrupted()


@pytest.fixture
def curt(workspace: Workspace, facts: str) -> None:
    """A workspace with six prices to learn, and a base that costs little time."""
    cut_models.write_curt(workspace)


def context(
    workspace: Workspace, name: str, progress: Any, plan: Plan | None = PLAN
) -> TaskContext:
    paths = JobPaths(workspace.jobs / name)
    files.make_folder(paths.folder)
    if plan is not None:
        tune.Record(paths.folder).keep_plan(plan)
    settings = {"settings": as_dict(USUAL), "seconds": 600.0, "goal": "faq"}
    return TaskContext(workspace, paths, "", settings, progress, lambda name, **data: None)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Studio, Tuned, list[Step]]:
    """A tuning that nothing disturbed."""
    from mlx_finetuning.experiment_tracker.evaluation import general_questions

    every = general_questions.questions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(general_questions, "questions", lambda name="ja": every(name)[::6])
        studio = Studio(Workspace(tmp_path_factory.mktemp("tuned")))
        write_facts(studio.workspace)
        cut_models.write_curt(studio.workspace)
        progress = Kill()
        return studio, tune.run(context(studio.workspace, "tune-1", progress)), progress.steps


def test_trials_are_ordinary_runs_and_the_winner_is_trained_to_its_end(
    tuned: tuple[Studio, Tuned, list[Step]],
) -> None:
    studio, result, steps = tuned
    ended = {run.run_id: run.status.state for run in studio.runs.list()}
    assert set(ended) == {trial.run_id for trial in result.trials}
    assert set(ended.values()) == {JobState.DONE}
    assert all(studio.workspace.adapter(run_id).weights.is_file() for run_id in ended)
    lengths = [trial.share for trial in result.trials]
    assert lengths[:3] == [0.25] * 3 and lengths[-1] == 1.0
    final = studio.runs.settings(result.run_id)
    assert final["iterations"] == result.settings["updates"]
    assert final["learning_rate"] == result.settings["learning_rate"]
    assert len(studio.runs.metrics(result.trials[0].run_id)) >= 4
    assert "選んだ設定は" in result.reason
    assert any(step.remaining_s for step in steps)


def test_the_winner_comes_out_again(tuned: tuple[Studio, Tuned, list[Step]]) -> None:
    """Trained beside others on a base that had carried their adapters, it is what a fresh process
    makes of the same settings."""
    studio, result, _ = tuned
    again = studio.training.rerun(result.run_id)
    studio.runs.follow(again, lambda _: None)
    assert studio.runs.compare_losses(result.run_id, again).is_exact


# The test below is killed at other moments.
@pytest.mark.parametrize("stage", sweep(("候補 2/3）", "答え合わせ"), ("候補 2/3）",)))
def test_stopped_anywhere_it_goes_on_without_losing_a_trial(
    workspace: Workspace, curt: None, tuned: tuple[Studio, Tuned, list[Step]], stage: str
) -> None:
    _, whole, _ = tuned
    with pytest.raises(Interrupted):
        tune.run(context(workspace, "tune-1", Kill(stage)))
    record = tune.Record(workspace.jobs / "tune-1")
    done = record.trials()
    studio = Studio(workspace)
    before = {run.run_id for run in studio.runs.list()}
    found = tune.run(context(workspace, "tune-1", Kill(), None))
    assert [one.run_id for one in found.trials][: len(done)] == [one.run_id for one in done]
    assert before <= {one.run_id for one in found.trials}
    assert (found.settings, found.goal) == (whole.settings, whole.goal)
    assert [(one.text, one.share, one.loss) for one in found.trials] == [
        (one.text, one.share, one.loss) for one in whole.trials
    ]


def test_killed_at_any_moment_it_loses_no_trial_and_its_winner_is_made_again(
    workspace: Workspace, curt: None
) -> None:
    """Killed as the system kills: while a first trial learns, after one is done, in the last run."""
    plan = dataclasses.replace(PLAN, choices=PLAN.choices[:2])
    studio, paths = Studio(workspace), workspace.job("tune-20261129-000000-0000")
    details = {"settings": as_dict(USUAL), "seconds": 600.0, "goal": "faq"}
    jobs.launch(
        paths,
        jobs.Job("tune", str(workspace.root), "", details),
        lambda folder: tune.Record(folder).keep_plan(plan),
    )
    record = tune.Record(paths.folder)
    moments: tuple[Callable[[], object], ...] = (
        lambda: record.started(0, 0.25),
        lambda: len(record.trials()) == 1,
        lambda: record.started(0, 1.0) or record.started(1, 1.0),
    )
    done: list[Trial] = []
    for has_come in moments:
        while not has_come():
            time.sleep(0.02)
        worker_process(paths).send_signal(signal.SIGKILL)
        while status.read(paths).is_living:
            time.sleep(0.02)
        assert record.trials()[: len(done)] == done
        done = record.trials()
        studio.tuning.resume("tune-20261129-000000-0000")
    found = studio.tuning.follow("tune-20261129-000000-0000").follow()
    assert record.trials()[: len(done)] == done
    assert {run.run_id for run in studio.runs.list()} == {one.run_id for one in found.trials}
    again = studio.training.rerun(found.run_id)
    studio.runs.follow(again, lambda _: None)
    assert studio.runs.compare_losses(found.run_id, again).is_exact


def test_time_that_is_up_ends_the_comparison_for_good(workspace: Workspace, curt: None) -> None:
    short = dataclasses.replace(PLAN, seconds=0.5)
    found = tune.run(context(workspace, "tune-1", Kill(), short))
    assert [trial.share for trial in found.trials] == [0.25, 1.0]
    # Another sitting has other times, and the same decision.
    again = tune.run(context(workspace, "tune-1", Kill(), dataclasses.replace(PLAN)))
    assert (again.run_id, again.trials) == (found.run_id, found.trials)


def test_a_run_that_explodes_is_a_bad_trial_and_not_the_end(
    workspace: Workspace, curt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_finetuning.errors import LossExploded

    learn = train.learn

    def explodes(context: TaskContext, settings: TrainConfig, *rest: Any) -> Any:
        result = learn(context, settings, *rest)
        if settings.rank > USUAL.rank:
            raise LossExploded(update=2, rows=[], loss=9.0, first_loss=1.0)
        return result

    monkeypatch.setattr(train, "learn", explodes)
    two = dataclasses.replace(PLAN, choices=PLAN.choices[:2])
    found = tune.run(context(workspace, "tune-1", Kill(), two))
    assert found.is_usual
    assert found.trials[1].goal == 0


def test_what_cannot_be_tuned_is_refused(workspace: Workspace, curt: None) -> None:
    tunings = Studio(workspace).tuning
    for changes in ({"method": "full"}, {"engine": "mlx-lm"}, {"ranks": 2}):
        with pytest.raises(InvalidSettings):
            tunings.start(dataclasses.replace(USUAL, **changes), 5)  # type: ignore[arg-type]
    with pytest.raises(TuningNotFound):
        tunings.follow("tune-20261129-000000-0000")


def test_the_base_is_itself_again_after_an_adapter(workspace: Workspace, curt: None) -> None:
    import mlx.core as mx

    from mlx_finetuning import models
    from mlx_finetuning.mlx_trainer.model import adapters
    from mlx_finetuning.mlx_trainer.model.load import load

    loaded = load(models.resolve(models.BUILT_IN, workspace))
    tokens = mx.array([[1, 2, 3, 4]])
    before, names = loaded.model(tokens), [name for name, _ in loaded.model.named_modules()]
    adapters.attach(loaded.model, USUAL)
    adapter_layers.detach(loaded)
    assert [name for name, _ in loaded.model.named_modules()] == names
    assert (loaded.model(tokens) == before).all().item()


def test_a_planned_last_run_may_end_a_little_late(
    workspace: Workspace, curt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs to the end were planned to take all of the time, and the first took more."""
    monkeypatch.setattr(tune._Tuning, "_spent_s", 60.0)
    monkeypatch.setattr(tune._Tuning, "_pace", lambda tuning: 1.0)
    both = dataclasses.replace(PLAN, rungs=(), finalists=2, compared=2)
    needed_s = 60.0 + both.trial_s(both.choices[1], 1.0)
    found = {}
    for name, times in {"late": 1.05, "too-late": 1.2}.items():
        plan = dataclasses.replace(both, seconds=needed_s / times)
        tuned = tune.run(context(workspace, f"tune-{name}", Kill(), plan))
        found[name] = [trial.share for trial in tuned.trials]
    assert found == {"late": [1.0, 1.0], "too-late": [1.0]}


def test_the_last_run_is_as_long_as_time_allows_and_stays_so_when_it_is_stopped(
    workspace: Workspace, curt: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = dataclasses.replace(PLAN, rungs=(), finalists=2, compared=2)
    with pytest.raises(Interrupted):
        tune.run(context(workspace, "tune-1", Kill(f"ランク {both.choices[1].rank}"), both))
    longest = round(tuning.LENGTHS[0] * USUAL.iterations)
    longer = dataclasses.replace(both.choices[1], updates=longest)
    # Goes on where there would be no time for as many.
    pace = both.seconds / both.trial_s(longer, 1.0)
    monkeypatch.setattr(tune._Tuning, "_pace", lambda tuning: pace)
    found = tune.run(context(workspace, "tune-1", Kill(), None))
    studio = Studio(workspace)
    made = [studio.runs.settings(one.run_id)["iterations"] for one in found.trials]
    assert made[:2] == [USUAL.iterations, longest]
