"""おまかせ: from a dataset to a conversation, stopped and killed on the way."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mlx_finetuning import errors
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.progress import Step
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import cut_models
from support.helpers import worker_process, write_facts


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    studio = Studio(Workspace(tmp_path))
    write_facts(studio.workspace)
    cut_models.write_curt(studio.workspace)
    return studio


def start(studio: Studio) -> str:
    settings = TrainConfig(dataset="facts", iterations=2, validate_every=1, sample_every=0)
    return studio.auto.start(settings, ("Q8_0",), prompts=2)


def stop_at(title: str) -> object:
    def progress(step: Step) -> None:
        if step.stage.startswith(title):
            raise errors.Interrupted()

    return progress


def made(studio: Studio, run_id: str) -> dict[str, int]:
    """How many jobs of each kind the run has."""
    kinds = [job.kind for job in studio.jobs.list(run_id)]
    return {kind: kinds.count(kind) for kind in kinds}


def test_a_journey_that_was_stopped_and_killed_goes_on_where_it_was(studio: Studio) -> None:
    run_id = start(studio)
    with pytest.raises(errors.Interrupted):
        studio.auto.follow(run_id).follow(stop_at("2/4"))  # type: ignore[arg-type]
    assert studio.runs.show(run_id).status.state == "done"
    assert made(studio, run_id)["evaluate"] == 1
    studio.auto.resume(run_id)
    stages: list[str] = []
    timed: list[str] = []

    def kill_at_writing(step: Step) -> None:
        stages.append(step.stage)
        if step.remaining_s is not None and step.stage.startswith("2/4"):
            timed.append(step.detail)
        journey = studio.auto.latest(run_id)
        if step.stage.startswith("3/4") and journey is not None and journey.status.is_living:
            paths = studio.workspace.run(run_id).later_job(journey.name)
            worker_process(paths).send_signal(signal.SIGKILL)

    with pytest.raises(errors.JobInterrupted):
        studio.auto.follow(run_id).follow(kill_at_writing)
    assert not any(stage.startswith("1/4") for stage in stages)
    studio.auto.resume(run_id)
    journey = studio.auto.follow(run_id).follow()
    # Nothing is known of stages that were never done here: what is left of one is not what is left of all.
    assert timed and all("この段階だけで" in detail for detail in timed)
    assert list(journey.seconds) == ["train", "evaluate", "export", "certify"]
    assert Path(journey.gguf["Q8_0"]).is_file()
    # The stopped evaluation was done again; what went on while its journey was dead was not.
    assert made(studio, run_id) == {"auto": 1, "evaluate": 2, "export": 1, "certify": 1}
    assert studio.evaluation.first_line(run_id) is not None
    assert studio.evaluation.certificate(run_id) is not None


def test_a_journey_that_finds_its_settings_first_ends_in_proven_files(studio: Studio) -> None:
    settings = TrainConfig(dataset="facts", iterations=8, sample_every=0, processes=1)
    name = studio.auto.start_tuned(settings, 0.5, ("Q8_0",), prompts=2)
    tuned = studio.tuning.follow(name).follow()
    journey = studio.auto.follow(tuned.run_id).follow()
    assert {"evaluate", "export", "certify"} <= set(journey.seconds)
    assert Path(journey.gguf["Q8_0"]).is_file()
    assert studio.evaluation.certificate(tuned.run_id) is not None
    assert {run.run_id for run in studio.runs.list()} == {one.run_id for one in tuned.trials}


def test_what_cannot_be_a_journey_is_refused_before_anything_starts(studio: Studio) -> None:
    with pytest.raises(errors.InvalidSettings):
        studio.auto.start(TrainConfig(dataset="facts", engine="simulation"))
    with pytest.raises(errors.InvalidSettings):
        studio.auto.start(TrainConfig(dataset="facts"), ("Q9_9",))
    with pytest.raises(errors.DatasetNotFound):
        studio.auto.start(TrainConfig(dataset="nothing"))
    assert studio.runs.list() == []
