"""The way from data to a conversation, above every page."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning import files
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui import sitemap
from mlx_finetuning.workspace import Workspace
from support import finished_run, ui_workspaces
from support.reports import REPORT, summed_up
from support.ui_pages import open_page, shown_errors


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


def links(page: AppTest) -> list[str]:
    return [item.proto.label for item in page.get("page_link")]


def test_every_page_leads_to_the_next_step() -> None:
    for name in sitemap.ENTRIES:
        shown = links(open_page(name))
        assert ("次へ: データセット" in shown) == (name != "dataset")
        steps = [label for label in shown if not label.startswith("次へ")]
        assert [label.strip("*").split()[-1].strip("*") for label in steps[:5]] == [
            *("データセット", "学習", "実験", "軽くする", "対話")
        ]


def test_steps_of_a_run_are_marked_as_they_are_done(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    page = open_page("quantization", run=run_id)
    assert "次へ: 実験" in links(page)
    files.write_json(workspace.run(run_id).report, asdict(REPORT))
    shown = links(open_page("training", run=run_id))
    assert [":green[✓]" in label for label in shown[:5]] == [True, True, True, False, False]
    assert "次へ: 軽くする" in shown


def test_result_that_asks_for_something_else_leads_to_its_page_first(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    report = summed_up()
    assert report.first_line.level != "good"
    files.write_json(workspace.run(run_id).report, asdict(report))
    for name in ("home", "training", "quantization"):
        shown = links(open_page(name, run=run_id))
        assert [label for label in shown if label.startswith("次へ")] == ["次へ: 実験"]
    shown = links(open_page("experiments", run=run_id))
    assert not [label for label in shown if label.startswith("次へ")]


def test_a_journey_that_stopped_can_go_on_from_every_page(workspace: Workspace) -> None:
    run_id = finished_run.make(workspace)
    folder = workspace.run(run_id).later_job("auto-20261129-080000-1a2b")
    files.make_folder(folder.folder)
    job = Job("auto", str(workspace.root), run_id, {"quants": ["Q8_0"], "prompts": 2})
    files.write_json(folder.job, asdict(job))
    jobs.write_status(folder, JobStatus("cancelled"))
    for name in ("home", "dataset", "settings"):
        page = open_page(name)
        assert "おまかせを続ける" in [item.label for item in page.button], name
    jobs.write_status(folder, JobStatus("done"))
    assert "おまかせを続ける" not in [item.label for item in open_page("home").button]


def test_how_a_training_ended_is_said_above_its_figures(workspace: Workspace) -> None:
    run = ui_workspaces.add_run(workspace, 0)
    result = TrainResult(updates=20, first_valid_loss=3.0, last_valid_loss=7.0, last_loss=8.0)
    files.write_json(run.result, asdict(result))
    page = open_page("training", run=run.folder.name)
    assert "学習は発散しました。" in shown_errors(page)[0]
