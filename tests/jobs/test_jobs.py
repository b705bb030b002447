"""Jobs, the queue and runs, with real worker processes doing simulated runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.errors import (
    DiskFull,
    Interrupted,
    InvalidSettings,
    JobInterrupted,
    RecordDamaged,
    RunIsSimulated,
    RunNotFound,
    RunNotReady,
    UnexpectedError,
)
from mlx_finetuning.jobs import jobs, queue, runs, status
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.workspace import RunPaths, Workspace
from support.helpers import jobs_in_process, wait_until, worker_process

pytestmark = pytest.mark.usefixtures("facts")

SHORT, LONG = 5, 100_000


def start(workspace: Workspace, iterations: int, **settings: Any) -> RunPaths:
    config = TrainConfig(
        dataset="facts", engine="simulation", iterations=iterations, validate_every=2, **settings
    )
    return workspace.run(runs.start(workspace, config, model_folder=None))


def state(paths: RunPaths) -> str:
    return status.read(paths).state


def test_run_goes_from_queued_to_done_and_leaves_its_records(workspace: Workspace) -> None:
    paths = start(workspace, SHORT)
    result = JobHandle(paths, TrainResult).follow()
    assert result.simulated is True and result.adapter_path is None
    shown = status.read(paths)
    assert (shown.state, shown.done, shown.total) == ("done", SHORT, SHORT)
    assert shown.created_at <= shown.started_at <= shown.ended_at
    wait_until(lambda: sum(1 for _ in files.read_lines(paths.events)) == 4)  # the last after "done"
    events = [line["event"] for line in files.read_lines(paths.events)]
    assert events == ["state", "warning", "stage", "state"]
    run = runs.show(workspace, paths.folder.name)
    assert (run.model, run.dataset, run.engine) == ("tiny-ja", "facts", "simulation")
    assert run.versions["mlx-finetuning"] and len(run.dataset_sha256) == 64


def test_run_id_has_the_documented_form(workspace: Workspace) -> None:
    for model in ("Org/Very.Long_Model-Name" * 5, "日本語", "/a/b/", "tiny-ja"):
        run_id = runs.new_id(model)
        assert workspace.run(run_id)
        assert run_id[:15].replace("-", "").isdigit() and len(run_id.rsplit("-", 1)[1]) == 4


def test_models_that_differ_in_the_middle_only_have_other_fingerprints(tmp_path: Path) -> None:
    edge, found = bytes(200_000), set()
    for middle in (b"a", b"b"):
        (tmp_path / "model.safetensors").write_bytes(edge + middle * 2_000_000 + edge)
        found.add(runs.model_fingerprint(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert len({*found, runs.model_fingerprint(tmp_path)}) == 3


def test_simulated_metrics_are_marked_and_repeat_for_a_seed(workspace: Workspace) -> None:
    first, second, other = (start(workspace, SHORT, seed=seed) for seed in (1, 1, 2))
    for paths in (first, second, other):
        jobs.follow(paths, silent)

    def losses(paths: RunPaths) -> list[float]:
        lines = runs.metrics(workspace, paths.folder.name)
        assert all(line.simulated is True for line in lines)
        return [line.loss for line in lines if line.loss is not None]

    assert len(losses(first)) == SHORT
    assert losses(first) == losses(second) != losses(other)


def test_job_has_ended_before_the_next_may_have_the_device(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    release = files.FileLock.release

    def late(lock: files.FileLock) -> None:
        if lock.path == workspace.device_lock:
            released.append(jobs.now())
        release(lock)

    monkeypatch.setattr(files.FileLock, "release", late)
    with jobs_in_process():
        paths = start(workspace, SHORT)
    assert status.read(paths).ended_at <= released[0]


def test_simulation_says_so_everywhere_and_writes_no_adapter(workspace: Workspace) -> None:
    paths = start(workspace, SHORT)
    steps: list[Step] = []
    result = JobHandle(paths, TrainResult).follow(steps.append)
    assert "シミュレーション" in result.note
    assert "シミュレーション" in status.read(paths).stage
    assert files.read_json(paths.experiment)["simulated"] is True
    run = runs.show(workspace, paths.folder.name)
    assert "シミュレーション" in run.state_label
    assert not (workspace.root / "models").exists()
    with pytest.raises(RunIsSimulated):
        runs.start_later_job(workspace, run.run_id, "evaluate", {})


def test_killed_worker_is_shown_as_interrupted_at_once_and_a_new_run_can_start(
    workspace: Workspace,
) -> None:
    paths = start(workspace, LONG)
    wait_until(lambda: len(list(files.read_lines(paths.metrics))) > 5)
    worker_process(paths).kill()
    wait_until(lambda: state(paths) == "interrupted", limit_s=2.0)
    assert files.read_json(paths.status)["state"] == "running"
    updates = [line["update"] for line in files.read_lines(paths.metrics) if "loss" in line]
    assert updates == list(range(1, len(updates) + 1))
    with pytest.raises(JobInterrupted):
        jobs.follow(paths, silent)
    assert JobHandle(start(workspace, SHORT), TrainResult).follow().updates == SHORT


def test_second_run_waits_for_the_first_and_starts_after_it(workspace: Workspace) -> None:
    first = start(workspace, LONG)
    wait_until(lambda: state(first) == "running")
    second = start(workspace, SHORT)
    wait_until(lambda: status.read(second).stage == "順番待ち")
    assert (state(first), state(second)) == ("running", "queued")
    assert not second.metrics.exists()
    assert [job.run_id for job in queue.before(workspace, second)] == [first.folder.name]
    third = start(workspace, SHORT)
    waits_for = [job.run_id for job in queue.before(workspace, third)]
    assert waits_for == [first.folder.name, second.folder.name]
    jobs.request_stop(third)
    jobs.request_stop(first)
    jobs.follow(second, silent)
    assert state(first) == "cancelled"
    assert status.read(second).started_at >= status.read(first).ended_at


def test_queue_is_served_oldest_first(workspace: Workspace) -> None:
    first = start(workspace, LONG)
    wait_until(lambda: state(first) == "running")
    waiting = [start(workspace, SHORT) for _ in range(3)]
    jobs.request_stop(first)
    for paths in reversed(waiting):
        jobs.follow(paths, silent)
    started = [status.read(paths).started_at for paths in waiting]
    assert started == sorted(started)


def test_killed_waiting_worker_holds_nobody_up(workspace: Workspace) -> None:
    first = start(workspace, LONG)
    wait_until(lambda: state(first) == "running")
    second, third = start(workspace, SHORT), start(workspace, SHORT)
    wait_until(lambda: status.read(second).stage == "順番待ち")
    worker_process(second).kill()
    jobs.request_stop(first)
    jobs.follow(third, silent)
    assert state(second) == "interrupted"


@pytest.mark.parametrize("how", ["request", "signal"])
def test_stopped_run_is_cancelled(workspace: Workspace, how: str) -> None:
    paths = start(workspace, LONG)
    wait_until(paths.metrics.exists)
    if how == "request":
        jobs.request_stop(paths)
    else:
        worker_process(paths).terminate()
    with pytest.raises(Interrupted):
        jobs.follow(paths, silent)
    assert state(paths) == "cancelled"
    wait_until(lambda: not files.is_locked(paths.lock))


def test_run_stopped_in_the_queue_never_runs(workspace: Workspace) -> None:
    first = start(workspace, LONG)
    wait_until(lambda: state(first) == "running")
    second = start(workspace, SHORT)
    jobs.request_stop(second)
    with pytest.raises(Interrupted):
        jobs.follow(second, silent)
    assert status.read(second).started_at == ""


def test_interrupted_progress_stops_the_job(workspace: Workspace) -> None:
    paths = start(workspace, LONG)

    def stop_when_running(step: Step) -> None:
        if step.done:
            raise Interrupted()

    with pytest.raises(Interrupted):
        jobs.follow(paths, stop_when_running)
    assert state(paths) == "cancelled"


def test_watching_can_end_without_stopping_the_job(workspace: Workspace) -> None:
    paths = start(workspace, LONG)

    def leave(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        jobs.follow(paths, leave, stops=False)
    assert status.read(paths).is_living


def test_hung_worker_is_shown_as_stalled(workspace: Workspace) -> None:
    paths = start(workspace, LONG)
    wait_until(lambda: state(paths) == "running")
    worker = worker_process(paths)
    worker.suspend()
    try:
        # A minute without a sign of life, by dating the last one back.
        record = files.read_json(paths.status)
        record["heartbeat_s"] -= status.STALLED_AFTER_S + 1
        files.write_json(paths.status, record)
        assert state(paths) == "stalled"
    finally:
        worker.resume()
    wait_until(lambda: state(paths) == "running")


def test_silent_stage_still_shows_a_heartbeat(workspace: Workspace) -> None:
    first = start(workspace, LONG)
    wait_until(lambda: state(first) == "running")
    second = start(workspace, SHORT)
    wait_until(lambda: status.read(second).stage == "順番待ち")
    before_s = status.read(second).heartbeat_s
    wait_until(lambda: status.read(second).heartbeat_s > before_s, limit_s=5.0)


def test_task_error_reaches_the_one_who_follows(workspace: Workspace) -> None:
    paths = workspace.run("20260101-000000-x-0000")
    job = Job("train", str(workspace.root), paths.folder.name, {"learning_rate": -1})
    jobs.launch(paths, job)
    with pytest.raises(InvalidSettings) as caught:
        jobs.follow(paths, silent)
    assert caught.value.data["problems"]
    assert state(paths) == "failed"


def test_unexpected_error_names_the_log_that_holds_the_traceback(workspace: Workspace) -> None:
    paths = workspace.job("odd")
    jobs.launch(paths, Job("no-such-task", str(workspace.root), "", {}))
    with pytest.raises(UnexpectedError) as caught:
        jobs.follow(paths, silent)
    assert caught.value.data["kind"] == "ValueError"
    assert "Traceback" in Path(caught.value.data["log"]).read_text(encoding="utf-8")


FULL = """
import resource, sys
from pathlib import Path
from mlx_finetuning import errors
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.progress import silent
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.workspace import Workspace
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
workspace = Workspace(Path(sys.argv[1]))
config = TrainConfig(dataset="facts", engine="simulation", iterations=300)
try:
    jobs.follow(workspace.run(runs.start(workspace, config, None)), silent)
except errors.DiskFull as error:
    print(error.data["path"])
"""


def run_with_limit(workspace: Workspace, size: int) -> str:
    command = [sys.executable, "-c", FULL, str(workspace.root), str(size)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_full_disk_at_the_start_leaves_nothing(workspace: Workspace) -> None:
    assert run_with_limit(workspace, 100)
    assert list(workspace.experiments.iterdir()) == []


def test_full_disk_in_the_middle_fails_the_run_and_keeps_its_metrics(workspace: Workspace) -> None:
    assert run_with_limit(workspace, 6000).endswith("metrics.jsonl")
    (run,) = runs.list_runs(workspace)
    assert run.status.state == "failed"
    assert run.status.error is not None and run.status.error["code"] == "DISK_FULL"
    lines = runs.metrics(workspace, run.run_id)
    updates = [line.update for line in lines if line.loss is not None]
    assert updates == list(range(1, 1 + len(updates)))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_really_full_disk_still_says_why_the_run_failed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if (
        sys.platform != "linux"
        or subprocess.run(mounting, capture_output=True, check=False).returncode
    ):
        pytest.skip("no small disk can be mounted here")
    try:
        workspace = Workspace(disk)
        workspace.dataset("facts").folder.mkdir(parents=True)
        paths = start(workspace, LONG)
        wait_until(lambda: state(paths) == "running")
        fill(disk / "filler")
        with pytest.raises(DiskFull):
            jobs.follow(paths, silent)
        assert state(paths) == "failed"
        wait_until(lambda: not files.is_locked(paths.lock))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            return


def test_half_made_folder_is_no_run(workspace: Workspace) -> None:
    (workspace.experiments / ".tmp-abc").mkdir(parents=True)
    assert runs.list_runs(workspace) == []


@pytest.mark.parametrize("name", ["status.json", "experiment.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"state": 5}', b'{"state": "exploded"}', b"\xff", b"[]", None]
)
def test_damaged_record_is_shown_as_damaged_beside_whole_runs(
    workspace: Workspace, name: str, content: bytes | None
) -> None:
    damaged = recorded(workspace, "20260101-000000-x-0000")
    whole = recorded(workspace, "20260102-000000-x-0000")
    if content is None:
        (damaged.folder / name).unlink()
    else:
        (damaged.folder / name).write_bytes(content)
    shown = {run.run_id: run for run in runs.list_runs(workspace)}
    assert shown[whole.folder.name].state_label == "完了"
    if name == "status.json" or content in (b"", b"{", b"\xff", b"[]", None):
        assert shown[damaged.folder.name].state_label == "破損"
        assert shown[damaged.folder.name].problems == (name,)


@pytest.mark.parametrize("name", ["status.json", "experiment.json"])
def test_record_of_a_newer_version_is_shown_and_not_rewritten(
    workspace: Workspace, name: str
) -> None:
    paths = recorded(workspace, "20260101-000000-x-0000")
    (paths.folder / name).write_text('{"schema_version": 99, "state": "teleported"}')
    (run,) = runs.list_runs(workspace)
    assert run.state_label == "新しい版の記録"
    assert "teleported" in (paths.folder / name).read_text()


def recorded(workspace: Workspace, run_id: str) -> RunPaths:
    """A finished run as files only."""
    paths = workspace.run(run_id)
    paths.folder.mkdir(parents=True)
    jobs.write_status(paths, status.JobStatus("done"))
    files.write_json(paths.experiment, {"run_id": run_id, "model": "m", "engine": "mlx"})
    return paths


def test_status_truncated_at_any_byte_is_damaged_not_a_crash(workspace: Workspace) -> None:
    paths = recorded(workspace, "20260101-000000-x-0000")
    content = paths.status.read_bytes()
    for length in range(len(content.rstrip())):
        paths.status.write_bytes(content[:length])
        with pytest.raises(RecordDamaged):
            status.read(paths)


def test_running_status_without_a_lock_is_interrupted(workspace: Workspace) -> None:
    paths = recorded(workspace, "20260101-000000-x-0000")
    for on_disk in ("queued", "running", "stopping"):
        jobs.write_status(paths, status.JobStatus(on_disk))
        assert state(paths) == "interrupted"


def test_unknown_run_names_recent_ones(workspace: Workspace) -> None:
    recorded(workspace, "20260101-000000-x-0000")
    with pytest.raises(RunNotFound) as caught:
        runs.show(workspace, "20260101-000000-x-0001")
    assert caught.value.data["recent"] == ["20260101-000000-x-0000"]


def test_only_a_run_that_left_an_adapter_can_be_used(workspace: Workspace) -> None:
    run_id = recorded(workspace, "20260101-000000-x-0000").folder.name
    with pytest.raises(RunNotReady):
        runs.require_trained(workspace, run_id)
    weights = workspace.adapter(run_id).weights
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    assert runs.require_trained(workspace, run_id).run_id == run_id


def test_dataset_hash_changes_with_any_split(workspace: Workspace) -> None:
    dataset = workspace.dataset("facts")
    hashes = {runs.dataset_hash(dataset)}
    for path in (dataset.train, dataset.valid, dataset.test):
        path.write_bytes(path.read_bytes() + b"\n")
        hashes.add(runs.dataset_hash(dataset))
    assert len(hashes) == 4


def test_saved_settings_start_the_same_run_again(workspace: Workspace) -> None:
    from mlx_finetuning import config

    paths = start(workspace, SHORT, learning_rate=1e-5)
    jobs.follow(paths, silent)
    again = config.load(TrainConfig, config.read_yaml(paths.config))
    assert as_dict(again) == jobs.read_job(paths).config


def test_file_named_like_a_module_in_the_current_folder_is_not_imported(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert JobHandle(start(workspace, SHORT), TrainResult).follow().updates == SHORT
