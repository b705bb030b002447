"""A finished run goes on as a new one, and the report compares both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_finetuning import files
from mlx_finetuning.cli import main
from mlx_finetuning.cli.evaluate import _shown
from mlx_finetuning.config import EvaluateConfig, TrainConfig
from mlx_finetuning.errors import ContinuationDiffers, RunNotReady
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.helpers import write_facts

pytestmark = pytest.mark.usefixtures("jobs_in_process")
SMALL = TrainConfig(
    dataset="facts",
    iterations=5,
    batch_size=4,
    rank=4,
    schedule="constant",
    warmup=0,
    validate_every=5,
    sample_every=0,
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    studio = Studio(Workspace(tmp_path_factory.mktemp("continuing")))
    write_facts(studio.workspace)
    return studio


@pytest.fixture(scope="module")
def first(studio: Studio) -> str:
    run_id = studio.training.start(SMALL)
    studio.runs.follow(run_id, silent)
    return run_id


@pytest.mark.usefixtures("few_general")
def test_command_starts_a_new_run_that_names_its_parent(
    studio: Studio, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("--set", "iterations=8", "--set", "learning_rate=5e-4")
    root = ("--workspace", str(studio.workspace.root), "--json")
    assert main(["train", "--continue", first, *changes, *root]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parent"] == first
    assert found["run_id"] != first
    before, after = (studio.runs.metrics(one) for one in (first, found["run_id"]))
    assert after[0].valid_loss == pytest.approx(before[-1].valid_loss, rel=1e-5)
    assert found["result"]["last_valid_loss"] < after[0].valid_loss
    events = studio.runs.events(found["run_id"])
    assert "continues" in [event.event for event in events]

    report = studio.evaluation.start(
        found["run_id"], EvaluateConfig(max_rows=4, max_tokens=8)
    ).follow()
    assert report.before is not None
    assert report.before.run_id == first
    assert report.before.losses["valid"] > report.splits["valid"].tuned.loss
    assert report.before.change.value < 0
    assert f"続きの前後（{first}）" in _shown(report)
    page = studio.workspace.run(found["run_id"]).report_html.read_text(encoding="utf-8")
    assert "続きの前後" in page


def test_what_cannot_be_changed_is_refused_before_anything_is_written(
    studio: Studio, first: str, tmp_path: Path
) -> None:
    listed = len(studio.runs.list())
    with pytest.raises(ContinuationDiffers) as refused:
        studio.training.continue_run(first, {"rank": 8, "targets": "attention"})
    assert "rank（4 → 8）" in str(refused.value)
    assert "targets" in str(refused.value)
    paths = studio.workspace.run("20260101-000000-tiny-ja-0000")
    record = files.read_json(studio.workspace.run(first).experiment)
    files.write_json(paths.experiment, {**record, "run_id": paths.folder.name})
    files.write_json(paths.job, files.read_json(studio.workspace.run(first).job))
    files.write_json(paths.status, files.read_json(studio.workspace.run(first).status))
    with pytest.raises(RunNotReady):  # without weights
        studio.training.continue_run(paths.folder.name, {})
    assert len(studio.runs.list()) == listed + 1
