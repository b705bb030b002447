"""The application API: what it checks before it starts anything, and what it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import (
    DatasetNotFound,
    Interrupted,
    InvalidName,
    InvalidSettings,
    ModelNotDownloaded,
    ModelNotFound,
    RunIsSimulated,
    RunNotFound,
    StudioError,
)
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

HEAVY = (
    *("mlx", "mlx_lm", "transformers", "tokenizers", "streamlit"),
    *("numpy", "pandas", "torch", "pydantic"),
)


@pytest.fixture
def studio(workspace: Workspace) -> Studio:
    return Studio(workspace)


def simulation(dataset: str, iterations: int = 5) -> TrainConfig:
    return TrainConfig(dataset=dataset, engine="simulation", iterations=iterations)


@pytest.mark.parametrize("module", ["studio", "cli", "cli.app", "jobs.runs", "models"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, mlx_finetuning.{module}\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_run_can_be_started_watched_and_read(studio: Studio, facts: str) -> None:
    run_id = studio.training.start(simulation(facts))
    steps: list[Step] = []
    result = studio.runs.follow(run_id, steps.append)
    assert result.simulated is True
    assert steps[-1].done == 5
    assert [run.run_id for run in studio.runs.list()] == [run_id]
    assert studio.runs.show(run_id).status.state == "done"
    assert studio.runs.metrics(run_id)[-1].update == 5
    assert studio.evaluation.report(run_id) is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TrainConfig(dataset=""), InvalidSettings),
        (TrainConfig(dataset="none"), DatasetNotFound),
        (TrainConfig(dataset="../facts"), InvalidName),
        (TrainConfig(dataset="facts", learning_rate=-1.0), InvalidSettings),
        (TrainConfig(dataset="facts", engine="torch"), InvalidSettings),
        (TrainConfig(dataset="facts", model="no-such-model"), ModelNotFound),
        (TrainConfig(dataset="facts", model="nobody/nothing"), ModelNotDownloaded),
        (TrainConfig(dataset="facts", model="/etc"), StudioError),
    ],
)
@pytest.mark.usefixtures("facts")
def test_wrong_request_is_refused_before_anything_is_written(
    studio: Studio, config: TrainConfig, expected: type[StudioError]
) -> None:
    with pytest.raises(expected):
        studio.training.start(config)
    assert not studio.workspace.experiments.exists()


def test_missing_dataset_names_those_there_are(studio: Studio, facts: str) -> None:
    with pytest.raises(DatasetNotFound) as caught:
        studio.training.start(TrainConfig(dataset="none"))
    assert caught.value.data["available"] == [facts]


def test_datasets_with_and_without_a_manifest_are_listed(studio: Studio, facts: str) -> None:
    assert [(entry.name, entry.manifest) for entry in studio.data.list()] == [(facts, None)]
    studio.workspace.dataset(facts).manifest.write_text('{"rows": 3}')
    assert studio.data.list()[0].manifest == {"rows": 3}


def test_empty_workspace_has_nothing_and_stays_empty(studio: Studio) -> None:
    assert studio.runs.list() == [] and studio.data.list() == []
    assert "tiny-ja" in [model.name for model in studio.models.list()]
    assert not studio.workspace.root.exists()


def test_stop_ends_a_run_and_leaves_an_ended_one_alone(studio: Studio, facts: str) -> None:
    run_id = studio.training.start(simulation(facts, 100_000))
    assert studio.runs.stop(run_id).status.state in ("stopping", "cancelled")
    with pytest.raises(Interrupted):
        studio.runs.follow(run_id, silent)
    assert studio.runs.stop(run_id).status.state == "cancelled"
    done = studio.training.start(simulation(facts))
    studio.runs.follow(done, silent)
    assert studio.runs.stop(done).status.state == "done"
    assert not studio.workspace.run(done).stop_request.exists()


def test_simulated_run_cannot_be_evaluated_exported_or_asked(studio: Studio, facts: str) -> None:
    run_id = studio.training.start(simulation(facts))
    studio.runs.follow(run_id, silent)
    question = [{"role": "user", "content": "値段は？"}]
    for action in (
        lambda: studio.evaluation.start(run_id).follow(),
        lambda: studio.exports.start(run_id).follow(),
        lambda: studio.exports.verify(Path("x.gguf"), run_id).follow(),
        lambda: studio.chat.answer(run_id, question),
    ):
        with pytest.raises(RunIsSimulated) as caught:
            action()
        assert "シミュレーション" in str(caught.value)
    assert studio.jobs.list(run_id) == []


def test_unknown_run_is_not_found_by_every_action(studio: Studio) -> None:
    for action in (
        studio.runs.show,
        studio.runs.stop,
        studio.runs.metrics,
        studio.evaluation.start,
        studio.exports.start,
    ):
        with pytest.raises(RunNotFound):
            action("20260101-000000-x-0000")


def test_unknown_answer_engine_is_refused(studio: Studio) -> None:
    with pytest.raises(InvalidSettings):
        studio.chat.answer("20260101-000000-x-0000", [], engine="torch")
