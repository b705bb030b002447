"""Saved datasets on the page データセット, through Streamlit's own test driver."""

from __future__ import annotations

import pytest

from mlx_finetuning.data_processor import uploads
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


def _uploaded(workspace: Workspace, name: str, text: str) -> str:
    """The digest of a file handed in."""
    return uploads.keep(name, text.encode(), workspace.uploads).parent.name


def test_doubtful_column_is_confirmed_before_saving(workspace: Workspace) -> None:
    rows = "".join(f"質問{n}は何ですか,答えは{n}番です。\n" for n in range(6))
    digest = _uploaded(workspace, "a.csv", "質問,担当からの回答\n" + rows)
    page = open_page("dataset", file=digest)
    assert "データセットを保存" not in [one.label for one in page.button]
    next(one for one in page.checkbox if "回答の列で合っています" in one.label).check().run()
    assert "データセットを保存" in [one.label for one in page.button]


def test_speaker_of_a_chat_log_is_chosen_on_the_page(workspace: Workspace) -> None:
    log = "".join(f"10:0{n}\t田端\t問い{n}\n10:0{n}\tわたし\t答え{n}です\n" for n in range(6))
    digest = _uploaded(workspace, "a.txt", "[LINE] 田端とのトーク履歴\n\n2024/05/01(水)\n" + log)
    page = open_page("dataset", file=digest)
    chosen = next(one for one in page.selectbox if one.label == "AIの役にする話し手")
    assert "会話の記録" in texts(page)
    chosen.select("わたし").run()
    assert "会話に組み立てました" in texts(page)
