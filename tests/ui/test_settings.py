"""設定: what is kept, and what is only held while the interface runs."""

from __future__ import annotations

import os

import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning.ui import server
from mlx_finetuning.workspace import Workspace
from support.ui_pages import click, open_page, texts

TOKEN = "hf_canarySettings0007"


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    monkeypatch.setenv("HF_TOKEN", "")


def token_fields(page: AppTest) -> list[str]:
    return [field.label for field in page.text_input if "トークン" in field.label]


def test_token_is_used_by_what_is_started_from_here_and_kept_in_no_file(
    workspace: Workspace,
) -> None:
    page = open_page("settings")
    assert "設定されていません。" in texts(page)
    page.text_input[0].input(f" {TOKEN} ")
    click(page, "このトークンを使う")
    assert os.environ["HF_TOKEN"] == TOKEN
    assert any("設定されています。" in found.value for found in page.success)
    assert TOKEN not in texts(page)
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in path.read_bytes() for path in files)


def test_token_is_not_asked_for_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_fields(open_page("settings"))
    monkeypatch.setattr(server, "bound_address", lambda: "0.0.0.0")
    assert not token_fields(open_page("settings"))
