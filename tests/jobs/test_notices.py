"""The system's notice of jobs that end, shown by a program that takes the system's one's place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.jobs import jobs, notices, status
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import Workspace
from support.helpers import wait_until

PROGRAM = "osascript" if sys.platform == "darwin" else "notify-send"


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-in was called with, a line each argument."""
    folder, said = tmp_path / "programs", tmp_path / "said"
    folder.mkdir()
    program = folder / PROGRAM
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{said}"\n', encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return said


def simulate(workspace: Workspace, facts: str) -> str:
    settings = TrainConfig(dataset=facts, engine="simulation", iterations=3, warmup=0)
    run_id = Studio(workspace).training.start(settings)
    jobs.follow(workspace.run(run_id), silent)
    return run_id


def test_end_is_told_by_the_system_where_that_is_wanted(
    workspace: Workspace, facts: str, told: Path
) -> None:
    studio = Studio(workspace)
    assert not studio.preferences.notifies()
    run_id = simulate(workspace, facts)
    wait_until(lambda: not _lives(workspace, run_id))
    assert not told.exists()
    studio.preferences.save_notifies(True)
    assert studio.preferences.read() == TrainConfig()  # other preferences stay
    simulate(workspace, facts)
    wait_until(told.exists)
    wait_until(lambda: told.read_text(encoding="utf-8").endswith(f"tiny-ja ← {facts}\n"))
    assert "学習が終わりました\n" in told.read_text(encoding="utf-8")


def _lives(workspace: Workspace, run_id: str) -> bool:
    from mlx_finetuning import files

    return files.is_locked(workspace.run(run_id).lock)


def test_stop_on_request_and_a_system_without_notices_are_passed_over(
    workspace: Workspace, facts: str, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = simulate(workspace, facts)
    paths = workspace.run(run_id)
    record = status.on_disk(paths)
    jobs.write_status(paths, status.JobStatus(status.JobState.CANCELLED, record.stage))
    notices.tell_end(workspace, paths)
    assert not told.exists()
    jobs.write_status(paths, record)
    monkeypatch.setenv("PATH", "/nowhere")
    assert not notices.is_possible()
    notices.tell_end(workspace, paths)


@pytest.mark.parametrize(
    ("platform", "program"), [("darwin", "osascript"), ("linux", "notify-send")]
)
def test_texts_are_arguments_and_never_code(
    platform: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    title, text = '" & (do shell script "x") & "', "--hint=x"
    command = notices.notice_command(title, text)
    assert command is not None and command[0] == f"/usr/bin/{program}"
    assert command[-2:] == [title, text]
    assert not any(title in word for word in command[:-2])
