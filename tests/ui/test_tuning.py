"""The search for settings beside おまかせ: its switch, its end, and the way on where it stopped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from mlx_finetuning import files
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.results import Tuned
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.studio.auto import Auto
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces
from support.ui_pages import click, open_page, shown_errors

REASON = "選んだ設定は、学習率 0.003、ランク 16、更新 150回です。"


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    ui_workspaces.add_dataset(workspace)


def add(workspace: Workspace, state: JobState) -> None:
    paths = workspace.job("tune-20261129-080000-1a2b")
    files.make_folder(paths.folder)
    files.write_json(paths.job, asdict(Job("tune", str(workspace.root), "", {})))
    jobs.write_status(paths, JobStatus(state))
    result = Tuned("20261129-080100-tiny-ja-0000", REASON, {}, False, 0.8, 0.1, 890.0, 900.0, ())
    files.write_json(paths.result, asdict(result))


def test_the_switch_lets_the_settings_be_found_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def start_tuned(auto: Auto, settings: Any, minutes: float) -> str:
        asked.append((settings.dataset, minutes))
        return "tune-20261129-080000-1a2b"

    monkeypatch.setattr(Auto, "start_tuned", start_tuned)
    page = open_page("dataset", view="saved", dataset="faq")
    page.toggle(key="tune").set_value(True).run()
    click(page, "おまかせで作る")
    assert not shown_errors(page)
    assert asked == [("faq", 15)]


def test_what_was_chosen_is_said_with_its_reason(workspace: Workspace) -> None:
    add(workspace, JobState.DONE)
    page = open_page("dataset", view="saved", dataset="faq")
    assert [item.value for item in page.success if REASON in item.value]
    links = [item.proto.label for item in page.get("page_link")]
    assert "選んだ設定の実験を見る" in links


def test_a_search_that_stopped_can_go_on(workspace: Workspace) -> None:
    add(workspace, JobState.CANCELLED)
    page = open_page("dataset", view="saved", dataset="faq")
    assert "続ける" in [item.label for item in page.button]
