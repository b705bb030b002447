"""A workspace of version 0.1.0 opens as it did then. How it was made: tests/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import cli
from mlx_finetuning.ui import sitemap
from mlx_finetuning.workspace import Workspace
from support.ui_pages import open_page, shown_errors, texts

OLD = Path(__file__).parent / "support" / "old_workspace"
SIMULATED, TRAINED = "20261128-212629-tiny-ja-c54b", "20261128-212634-tiny-ja-3470"
DELETED = "20261128-212631-tiny-ja-d2aa"


@pytest.fixture(autouse=True)
def old_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(OLD, workspace.root, dirs_exist_ok=True)
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))


def answer_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The command's JSON object."""
    assert cli.main([*words, "--json"]) == 0, capsys.readouterr().err
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_dataset_is_listed_with_its_counts(capsys: pytest.CaptureFixture[str]) -> None:
    (dataset,) = answer_of(capsys, "data", "list")["datasets"]
    assert dataset["name"] == "shop"
    assert list(dataset["manifest"]["counts"].values()) == [8, 1, 1]


def test_runs_are_listed_with_state_and_engine(capsys: pytest.CaptureFixture[str]) -> None:
    runs = {run["run_id"]: run for run in answer_of(capsys, "runs", "list")["runs"]}
    assert set(runs) == {SIMULATED, TRAINED}
    assert [runs[name]["state"] for name in (SIMULATED, TRAINED)] == ["done", "done"]
    assert [runs[name]["engine"] for name in (SIMULATED, TRAINED)] == ["simulation", "mlx"]
    assert not any(run["problems"] for run in runs.values())


def test_losses_and_later_jobs_of_a_run_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run = answer_of(capsys, "runs", "show", TRAINED)
    assert run["losses"]["update"] == 2
    assert run["losses"]["last_valid_loss"] == pytest.approx(5.1207, abs=1e-4)
    jobs = {job["kind"]: job["status"]["state"] for job in run["jobs"]}
    assert jobs == {"evaluate": "done", "serve_model": "cancelled"}


def test_notes_and_trash_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    note = answer_of(capsys, "runs", "note", SIMULATED)
    assert (note["text"], list(note["tags"])) == ("最初の練習", ["練習", "店"])
    answer_of(capsys, "runs", "delete", DELETED, "--restore")
    assert answer_of(capsys, "runs", "show", DELETED)["problems"] == []


def test_runs_can_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    answer_of(capsys, "runs", "compare", SIMULATED, TRAINED)


def test_report_is_drawn() -> None:
    page = open_page("experiments", run=TRAINED)
    good = [str(item.value) for item in page.success]
    assert "学習できています（学習した行の損失 2.899 → 2.359）。" in "\n".join([texts(page), *good])


@pytest.mark.parametrize("run", ["", SIMULATED, TRAINED])
def test_every_page_is_drawn(run: str) -> None:
    for name in sitemap.ENTRIES:
        page = open_page(name, **({"run": run} if run else {}))
        assert not page.exception, (name, page.exception)
        assert not [error for error in shown_errors(page) if "予期しない" in error], name
