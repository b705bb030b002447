"""Trackers of a run while it trains and afterwards, read by each one's own reader."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_finetuning import files
from mlx_finetuning.config import TRACKERS, TrainConfig
from mlx_finetuning.errors import InvalidSettings, TrackerNotInstalled
from mlx_finetuning.experiment_tracker.records import content, trackers, tracking
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import RunPaths, Workspace
from support import ui_workspaces
from support.helpers import write_facts

Points = dict[str, list[tuple[int, float]]]
"""By name: steps and values."""


def read_tensorboard(folder: Path, run_id: str) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kept = EventAccumulator(str(folder / run_id), {"scalars": 0})
    kept.Reload()
    return {
        tag: [(event.step, event.value) for event in kept.Scalars(tag)]
        for tag in kept.Tags()["scalars"]
    }


def read_mlflow(folder: Path, run_id: str) -> Points:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (group,) = client.search_experiments(filter_string="name = 'mlx-finetuning'")
    (kept,) = client.search_runs([group.experiment_id])
    assert kept.info.run_name == run_id and kept.data.params["rank"] == "16"
    return {
        name: [
            (point.step, point.value) for point in client.get_metric_history(kept.info.run_id, name)
        ]
        for name in kept.data.metrics
    }


def read_trackio(folder: Path, run_id: str) -> Points:
    """In a process of its own: the library looks up its folder when it is imported."""
    code = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage as kept;"
        "print(json.dumps(kept.get_logs('mlx-finetuning', sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run_id],
        env={**os.environ, "TRACKIO_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    points: Points = {}
    for entry in json.loads(done.stdout.splitlines()[-1]):
        for name, value in entry.items():
            if isinstance(value, int | float) and name != "step":
                points.setdefault(name, []).append((entry["step"], value))
    return points


def read_wandb(folder: Path, run_id: str) -> Points:
    """By its own messages; 0.31 has no reader of its files in Python, only one that wants its servers."""
    from wandb.proto import wandb_internal_pb2

    points: Points = {}
    for path in sorted(folder.rglob(f"run-{run_id}.wandb")):
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {
                (item.key or ".".join(item.nested_key)): json.loads(item.value_json)
                for item in record.history.item
            }
            for name, value in items.items():
                if not name.startswith("_"):
                    points.setdefault(name, []).append((items["_step"], value))
    return points


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Of a log behind the seven bytes that are wandb's own: blocks of 32 kB with records in parts, each
    behind its CRC (4 bytes), length (2) and kind (1: whole, 2, 3 and 4: its first, middle and last part)."""
    assert content[:4] == b":W&B"
    at, whole = 7, b""
    while at < len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


READERS: dict[str, Callable[[Path, str], Points]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
    "wandb": read_wandb,
}
NAMES = [
    pytest.param(name, marks=[] if name == "tensorboard" else [pytest.mark.trackers])
    for name in TRACKERS
]


def logged(workspace: Workspace, run_id: str) -> Points:
    points: Points = {}
    for point in content.content(workspace, run_id).scalars():
        for name, value in point.values.items():
            points.setdefault(name, []).append((point.step, value))
    return points


def assert_same(found: Points, expected: Points) -> None:
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        values = [value for _, value in points]
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-6), name


@pytest.fixture
def run(workspace: Workspace) -> RunPaths:
    return ui_workspaces.add_run(workspace, 0)


@pytest.mark.parametrize("name", NAMES)
def test_reader_finds_every_point_of_a_run_that_goes_on_and_is_resumed(
    workspace: Workspace, run: RunPaths, name: str
) -> None:
    """The log grows while it is followed; the second sitting writes the last updates anew."""
    run_id, warned = run.folder.name, list[str]()
    text = run.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    run.metrics.write_text("".join(text[:6]), encoding="utf-8")
    with tracking.tracked(workspace, run_id, [name], warned.append):
        run.metrics.write_text("".join(text[:12]), encoding="utf-8")
    with tracking.tracked(workspace, run_id, [name], warned.append):
        run.metrics.write_text("".join(text[:10]), encoding="utf-8")
        run.metrics.write_text("".join(text), encoding="utf-8")
    assert warned == []
    assert_same(READERS[name](workspace.tracking / name, run_id), logged(workspace, run_id))


@pytest.mark.parametrize("name", NAMES)
def test_record_that_is_written_afterwards_has_every_point(
    workspace: Workspace, run: RunPaths, tmp_path: Path, name: str
) -> None:
    run_id = run.folder.name
    (path,) = Studio(workspace).records.write(run_id, name, tmp_path / "out")
    assert path.exists()
    assert_same(READERS[name](tmp_path / "out", run_id), logged(workspace, run_id))


def test_training_is_followed(workspace: Workspace) -> None:
    write_facts(workspace)
    studio = Studio(workspace)
    quick = {"iterations": 4, "batch_size": 2, "validate_every": 2, "sample_every": 0, "replay": 0}
    settings = TrainConfig(dataset="facts", trackers=("tensorboard",), **quick)  # type: ignore[arg-type]
    run_id = studio.training.start(settings)
    studio.runs.follow(run_id, silent)
    found = read_tensorboard(workspace.tracking / "tensorboard", run_id)
    assert_same(found, logged(workspace, run_id))
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4]


def test_failure_of_a_tracker_ends_no_training(workspace: Workspace, run: RunPaths) -> None:
    files.write_text(workspace.tracking / "tensorboard", "a file where a folder should be")
    warned: list[str] = []
    with tracking.tracked(workspace, run.folder.name, ["tensorboard"], warned.append):
        pass
    assert warned == ["TensorBoard への記録が、途中で失敗しました。学習には影響ありません。"]


def test_nothing_is_started_unless_asked(
    workspace: Workspace, run: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with tracking.tracked(workspace, run.folder.name, TrainConfig().trackers, print):
        pass


def test_what_is_absent_or_unknown_is_said_before_anything_is_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_facts(workspace)
    studio = Studio(workspace)
    monkeypatch.setattr(trackers, "is_installed", lambda name: name != "wandb")
    with pytest.raises(TrackerNotInstalled, match=r"pip install 'mlx-finetuning\[wandb\]'"):
        studio.training.start(TrainConfig(dataset="facts", trackers=("tensorboard", "wandb")))
    with pytest.raises(InvalidSettings, match="「neptune」は選べません"):
        studio.training.start(TrainConfig(dataset="facts", trackers=("neptune",)))
    assert studio.runs.list() == []
