"""Every page on an empty, a full and a damaged workspace, through Streamlit's own test driver."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_finetuning.ui import sitemap
from mlx_finetuning.workspace import Workspace
from support import ui_workspaces
from support.ui_pages import PAGES, SCRIPT, open_page, tables, texts

ROOT = Path(__file__).resolve().parents[2]


def nothing(workspace: Workspace) -> None:
    """An empty workspace stays empty."""


def two_hundred_runs(workspace: Workspace) -> None:
    ui_workspaces.fill(workspace, 200)


@pytest.fixture(autouse=True)
def chosen_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


@pytest.mark.parametrize("prepare", [nothing, two_hundred_runs, ui_workspaces.damage])
def test_every_page_is_drawn_without_an_exception(
    workspace: Workspace, prepare: Callable[[Workspace], None]
) -> None:
    prepare(workspace)
    for name, entry in sitemap.ENTRIES.items():
        page = open_page(name)
        assert not page.exception, (name, page.exception)
        assert [title.value for title in page.title] == [entry.title]
        assert not any("予期しない" in item.value for item in page.error), name


def test_every_run_of_a_damaged_workspace_can_be_looked_at(workspace: Workspace) -> None:
    ui_workspaces.damage(workspace)
    for folder in workspace.experiments.iterdir():
        for name in ("training", "experiments"):
            page = open_page(name, run=folder.name)
            assert not page.exception, (name, folder.name, page.exception)
            assert not any("予期しない" in item.value for item in page.error), folder.name


def test_empty_home_leads_to_the_first_step() -> None:
    page = open_page("home")
    assert "まだ実験がありません" in texts(page)
    assert next(button.label for button in page.button) == "サンプルで試す"


def test_home_lists_the_latest_runs_with_their_states(workspace: Workspace) -> None:
    ui_workspaces.add_dataset(workspace)
    ui_workspaces.simulate(workspace)
    ((row,),) = tables(open_page("home"))
    assert (row["データセット"], row["状態"]) == ("faq", "完了（シミュレーション）")
    assert row["結果"] == "まだ確かめていません"


def test_unexpected_trouble_is_shown_in_japanese_and_kept_in_the_log(workspace: Workspace) -> None:
    workspace.run("x").status.mkdir(parents=True)  # a folder where a file belongs
    page = open_page("home")
    assert not page.exception
    assert "予期しないエラー" in page.error[0].value
    assert "IsADirectoryError" in (workspace.logs / "ui.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sitemap.ENTRIES)
def test_no_page_has_strings_that_streamlit_would_show(name: str) -> None:
    """It writes every string that stands alone in a page's own code, but the first, on the page."""
    _, *statements = ast.parse((PAGES / f"{name}.py").read_text(encoding="utf-8")).body
    alone = [item.value for item in statements if isinstance(item, ast.Expr)]
    assert not [value.value for value in alone if isinstance(value, ast.Constant)]


def test_settings_keep_the_server_local_and_quiet() -> None:
    linked = ROOT / ".streamlit" / "config.toml"
    shipped = SCRIPT.parent / ".streamlit" / "config.toml"
    assert linked.resolve() == shipped.resolve()
    settings = tomllib.loads(shipped.read_text(encoding="utf-8"))
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["enableXsrfProtection"] is True
    assert settings["server"]["fileWatcherType"] == "none"
    assert settings["browser"]["gatherUsageStats"] is False
    assert "Noto Sans CJK JP" in settings["theme"]["font"]


def test_interface_loads_no_model_library_and_pandas_late() -> None:
    program = (
        "import sys, mlx_finetuning.ui.navigation\n"
        "heavy = {'mlx', 'transformers', 'tokenizers', 'xllamacpp', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
