"""The home page on an empty, a full and a damaged workspace, and the server's settings."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "src/mlx_finetuning/ui/entry/main.py"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(tmp_path))
    return Workspace.locate()


def home() -> AppTest:
    return AppTest.from_file(str(SCRIPT), default_timeout=20).run()


def simulated_run(workspace: Workspace) -> str:
    row = {"messages": [{"role": "user", "content": "問"}, {"role": "assistant", "content": "答"}]}
    dataset = workspace.dataset("facts")
    dataset.folder.mkdir(parents=True)
    for split in (dataset.train, dataset.valid):
        split.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    studio = Studio(workspace)
    run_id = studio.start_training(
        TrainConfig(dataset="facts", engine="simulation", iterations=3, warmup=0)
    )
    studio.watch(run_id, silent)
    return run_id


def test_empty_workspace_says_what_to_do_first(workspace: Workspace) -> None:
    page = home()
    assert not page.exception
    assert not page.error
    text = "\n".join(item.value for item in page.markdown)
    assert "mlx-finetuning demo" in "\n".join([text, *(item.value for item in page.code)])
    assert "まだ実験がありません" in text
    assert not page.dataframe


def test_runs_are_listed_with_their_states(workspace: Workspace) -> None:
    run_id = simulated_run(workspace)
    (table,) = home().dataframe
    (row,) = table.value.to_dict("records")
    assert (row["実験"], row["データセット"]) == (run_id, "facts")
    assert row["状態"] == "完了（シミュレーション）"


def test_damaged_run_is_listed_as_damaged(workspace: Workspace) -> None:
    run_id = simulated_run(workspace)
    workspace.run(run_id).status.write_bytes(b"\x00\xff{")
    page = home()
    assert not page.exception
    (table,) = page.dataframe
    assert "破損" in table.value["状態"][0]


def test_unexpected_trouble_is_shown_in_japanese_and_kept_in_the_log(workspace: Workspace) -> None:
    status = workspace.run("x").status
    status.mkdir(parents=True)  # a folder where a file belongs
    page = home()
    assert not page.exception
    assert "予期しないエラー" in page.error[0].value
    assert "IsADirectoryError" in (workspace.logs / "ui.log").read_text(encoding="utf-8")


def test_settings_keep_the_server_local_and_quiet() -> None:
    linked = ROOT / ".streamlit" / "config.toml"
    shipped = ROOT / "src/mlx_finetuning/ui/entry/.streamlit/config.toml"
    assert linked.resolve() == shipped.resolve()
    settings = tomllib.loads(shipped.read_text(encoding="utf-8"))
    assert settings["server"]["address"] == "127.0.0.1"
    assert settings["server"]["fileWatcherType"] == "none"
    assert settings["browser"]["gatherUsageStats"] is False
    assert "Noto Sans CJK JP" in settings["theme"]["font"]


def test_interface_loads_no_model_library() -> None:
    program = (
        "import sys, mlx_finetuning.ui.navigation\n"
        "heavy = {'mlx', 'transformers', 'tokenizers', 'xllamacpp', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
