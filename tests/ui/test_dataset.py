"""Saved datasets on the page データセット, through Streamlit's own test driver."""

from __future__ import annotations

import pytest

from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces
from support.ui_pages import click, open_page, shown_errors, texts


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    ui_workspaces.add_dataset(workspace)


def test_deleted_dataset_is_found_in_the_trash_and_brought_back(workspace: Workspace) -> None:
    click(open_page("dataset", view="saved"), "移す")
    assert Studio(workspace).data.list() == []
    trash = open_page("dataset", view="trash")
    assert "**faq**" in texts(trash)
    click(trash, "元に戻す")
    assert [entry.name for entry in Studio(workspace).data.list()] == ["faq"]
    assert "ゴミ箱は空です" in texts(open_page("dataset", view="trash"))


def test_damaged_dataset_can_be_thrown_away(workspace: Workspace) -> None:
    workspace.dataset("faq").manifest.write_bytes(b"\x00{")
    page = open_page("dataset", view="saved")
    assert "壊れて" in shown_errors(page)[0]
    click(page, "移す")
    assert Studio(workspace).data.list() == []


def test_what_was_made_last_is_offered_first() -> None:
    ui_workspaces.add_dataset(Workspace.locate(), "a-later-one")
    assert open_page("training").selectbox(key="train-dataset").value == "a-later-one"
    assert open_page("training", dataset="faq").selectbox(key="train-dataset").value == "faq"
