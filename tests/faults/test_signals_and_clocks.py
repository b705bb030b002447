"""Stop signals, a closed terminal, a closed laptop, a hung worker, a clock that jumps."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
import time
from pathlib import Path

import pytest

from mlx_finetuning import cli, files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.jobs import jobs, status, watchdog
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import JobPaths, RunPaths, Workspace
from support import ui_workspaces
from support.helpers import wait_until, worker_process
from support.ui_pages import open_page

pytestmark = pytest.mark.usefixtures("facts")

SHORT, LONG = 60, 100_000
COMMAND = str(Path(sys.executable).with_name("mlx-finetuning"))


def start(workspace: Workspace, iterations: int = LONG) -> RunPaths:
    config = TrainConfig(dataset="facts", engine="simulation", iterations=iterations, warmup=0)
    paths = workspace.run(Studio(workspace).training.start(config))
    wait_until(lambda: status.read(paths).started_at != "")
    return paths


def hang(paths: RunPaths, silent_s: float = status.STALLED_AFTER_S + 1) -> None:
    """Stop the worker where it is, and date its last sign of life back."""
    wait_until(paths.metrics.exists)
    suspend(paths, silent_s)


def suspend(paths: JobPaths, silent_s: float) -> None:
    worker_process(paths).suspend()
    time.sleep(0.1)
    record = files.read_json(paths.status)
    files.write_json(paths.status, {**record, "heartbeat_s": record["heartbeat_s"] - silent_s})


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_stop_signal_ends_a_run_as_stopped(workspace: Workspace, name: str) -> None:
    paths = start(workspace)
    worker_process(paths).send_signal(signal.Signals[name])
    wait_until(lambda: status.read(paths).state == "cancelled")
    assert not files.is_locked(workspace.device_lock)


def test_run_outlives_the_terminal_it_was_started_in(workspace: Workspace) -> None:
    words = ["train", "--dataset", "facts", "--engine", "simulation", "--set", "iterations=80"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(COMMAND, [COMMAND, *words, "--workspace", str(workspace.root)])
    studio = Studio(workspace)
    wait_until(lambda: any(run.status.state == "running" for run in studio.runs.list()))
    os.close(terminal)  # the kernel sends SIGHUP to whoever sits there
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    (run,) = studio.runs.list()
    assert studio.runs.follow(run.run_id, silent).updates == 80


@pytest.mark.parametrize("asleep_s", [1, pytest.param(65, marks=pytest.mark.long)])
def test_closed_laptop_is_stalled_and_then_goes_on(workspace: Workspace, asleep_s: int) -> None:
    paths = start(workspace, SHORT)
    hang(paths, max(0.0, status.STALLED_AFTER_S + 1 - asleep_s))  # what is not slept is dated back
    time.sleep(asleep_s)
    assert status.read(paths).state == "stalled"
    worker_process(paths).resume()
    assert JobHandle(paths, TrainResult).follow().updates == SHORT
    ended = status.read(paths)
    assert ended.state == "done" and asleep_s <= ended.elapsed_s < asleep_s + 30


@pytest.mark.parametrize("asked_before", [False, True])
def test_hung_worker_is_shown_as_such_and_can_be_ended(
    workspace: Workspace, asked_before: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = start(workspace)
    hang(paths)
    words = ["runs", "stop", paths.folder.name, "--workspace", str(workspace.root), "--json"]
    if asked_before:
        assert cli.main(words) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "stalled"
    assert Studio(workspace).runs.show(paths.folder.name).state_label.startswith("応答なし")
    assert cli.main([*words, "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "interrupted"
    assert not files.is_locked(workspace.device_lock)


def test_hung_worker_can_be_ended_in_the_browser(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    paths = start(workspace)
    hang(paths)
    page = open_page("training", run=paths.folder.name)
    (button,) = (button for button in page.button if button.label == "強制終了")
    button.click().run()
    assert status.read(paths).state == "interrupted"


def test_hung_job_of_no_run_can_be_ended_on_the_first_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    paths, device = workspace.job("odd"), files.FileLock(workspace.device_lock)
    assert device.acquire()
    jobs.launch(paths, Job("dry_run", str(workspace.root), "", {}))
    wait_until(lambda: status.read(paths).detail != "")
    suspend(paths, status.STALLED_AFTER_S + 1)
    (button,) = (button for button in open_page("home").button if button.label == "強制終了")
    button.click().run()
    assert status.read(paths).state == "interrupted"
    device.release()


HANGING = """
import time
from mlx_finetuning.jobs import watchdog
watchdog.UNKNOWN_S = watchdog.LEAST_S = 1.0
from mlx_finetuning.jobs import reporter
reporter.HEARTBEAT_S = 0.1
from mlx_finetuning.trainer import simulation
simulation.UPDATE_S = 1000.0
"""


def test_hung_computation_is_shown_though_its_process_lives_and_can_be_ended(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    paths = start(workspace)
    wait_until(lambda: status.read(paths).state == "stalled")
    before_s = status.read(paths).heartbeat_s
    wait_until(lambda: status.read(paths).heartbeat_s > before_s)
    assert Studio(workspace).runs.stop(paths.folder.name).state_label.startswith("応答なし")
    assert Studio(workspace).runs.stop(paths.folder.name, force=True).status.state == "interrupted"


class Clock:
    """Seconds that pass when told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def allowed_s(reports: list[tuple[float, str, int]]) -> float:
    """How long the work may be silent after `reports`: seconds before each, its stage, units."""
    clock = Clock()
    watch = watchdog.Watchdog(clock)
    for passed_s, stage, done in reports:
        clock.now_s += passed_s
        due_s = watch.after(Step(stage, done, 100))
    return due_s - clock.now_s


@pytest.mark.parametrize(
    ("reports", "least_s", "most_s"),
    [
        pytest.param([(0, "準備", 0)], 6 * 3600, 6 * 3600, id="before the first unit"),
        pytest.param([(0, "準備", 0), (9, "準備", 0)], 6 * 3600, 6 * 3600, id="no unit yet"),
        pytest.param([(0, "学習", 0), (1, "学習", 1)], 1800, 1800, id="quick units"),
        pytest.param([(0, "学習", 0), (600, "学習", 1)], 10_000, 15_000, id="slow units"),
        pytest.param(
            [(0, "学習", 0), (600, "学習", 1), (1, "学習", 2)], 10_000, 15_000, id="slowest counts"
        ),
        pytest.param(
            [(0, "学習", 0), (600, "学習", 1), (9, "検証", 0)], 6 * 3600, 6 * 3600, id="other stage"
        ),
        pytest.param(
            [(0, "学習", 0), (9, "学習", 1), (9, "検証", 0), (9999, "学習", 1)],
            *(1800, 1800),
            id="what other stages take does not count",
        ),
    ],
)
def test_slow_work_is_given_time_by_its_own_pace(
    reports: list[tuple[float, str, int]], least_s: float, most_s: float
) -> None:
    assert least_s <= allowed_s(reports) <= most_s


@pytest.mark.parametrize("content", ["", "0", "1", "-1", "x", "my own"])
def test_only_a_worker_is_ever_ended_by_force(workspace: Workspace, content: str) -> None:
    """The lock's text is damaged: nobody else may be hit, and the worker lives."""
    paths = start(workspace)
    paths.lock.write_text(str(os.getpid()) if content == "my own" else content)
    before = jobs.END_S
    jobs.END_S = 0.2
    try:
        assert not jobs.end(paths)
    finally:
        jobs.END_S = before
    assert status.read(paths).state == "running"


JUMPING = """
import datetime, os, time
jump_s, start_s, clock = float(os.environ["JUMP_S"]), time.monotonic(), time.time
def jumped():
    return clock() + (jump_s if time.monotonic() - start_s > 0.7 else 0.0)
time.time = jumped
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(jumped(), tz)
datetime.datetime = Jumping
"""


@pytest.mark.parametrize("days", [1, -1])
def test_clock_that_jumps_a_day_changes_no_state_and_no_duration(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("JUMP_S", str(days * 86_400))
    paths = start(workspace, 150)
    monkeypatch.delenv("PYTHONPATH")
    seen = set()
    jobs.follow(paths, lambda _: seen.add(status.read(paths).state))
    ended = status.read(paths)
    assert ended.state == "done" and seen <= {"running", "done"}
    assert 1.0 < ended.elapsed_s < 30
    assert ended.ended_at[:10] != ended.started_at[:10], "the clock did not jump"
    assert all(0 <= line["elapsed_s"] < 30 for line in files.read_lines(paths.metrics))
    later = start(workspace, 5)  # by today's clock, beside records of another day
    assert JobHandle(later, TrainResult).follow().updates == 5
    assert {run.status.state for run in Studio(workspace).runs.list()} == {"done"}


def test_records_dated_tomorrow_are_drawn(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_FINETUNING_HOME", str(workspace.root))
    ui_workspaces.fill(workspace, 2)
    for folder in workspace.experiments.iterdir():
        record = files.read_json(RunPaths(folder).status)
        files.write_json(RunPaths(folder).status, {**record, "created_at": "2999-01-01T00:00:00"})
    for name in ("home", "experiments"):
        page = open_page(name)
        assert not page.exception and not page.error
