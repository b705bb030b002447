"""Workspaces for the interface's tests and measurements: filled by hand, full or damaged."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlx_finetuning import config, files
from mlx_finetuning.config import PrepareConfig, TrainConfig
from mlx_finetuning.progress import silent
from mlx_finetuning.studio import Studio
from mlx_finetuning.workspace import RunPaths, Workspace

STATES = ("done", "done", "done", "cancelled", "failed", "running")
START = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = "質問,回答,カテゴリ\n" + "".join(
    f"商品{number}の値段は？,商品{number}は{number}00円です。,価格\n" for number in range(1, 41)
)


def add_dataset(workspace: Workspace, name: str = "faq") -> None:
    """With rows of all splits."""
    studio = Studio(workspace)
    source = studio.data.keep_upload("質問と回答.csv", TABLE.encode("cp932"))
    studio.data.prepare(source, name, PrepareConfig(hold_out="group"))


def add_run(workspace: Workspace, number: int, updates: int = 20) -> RunPaths:
    """A finished (or stopped, failed, interrupted) run's records, without weights."""
    state = STATES[number % len(STATES)]
    made = (START + timedelta(minutes=number)).isoformat()
    paths = workspace.run(f"2026{number:04}-120000-tiny-ja-{number:04x}")
    files.write_json(
        paths.experiment,
        {
            "run_id": paths.folder.name,
            "model": "tiny-ja",
            "model_folder": "",
            "dataset": "faq",
            "engine": "mlx",
            "simulated": False,
            "created_at": made,
            "dataset_sha256": "0" * 64,
            "versions": {"mlx-finetuning": "0.1.0"},
        },
    )
    settings = config.as_dict(TrainConfig(dataset="faq", iterations=updates))
    files.write_text(paths.config, json.dumps(settings, ensure_ascii=False))
    job = {"kind": "train", "workspace": str(workspace.root), "run_id": paths.folder.name}
    files.write_json(paths.job, {**job, "config": settings})
    files.write_json(paths.status, _status(state, made, updates))
    write_metrics(paths.metrics, updates)
    return paths


def _status(state: str, made: str, updates: int) -> dict[str, object]:
    error = {"code": "LOSS_NOT_FINITE", "data": {"update": 3, "rows": [4]}}
    return {
        "state": state,
        "stage": "学習",
        "done": updates,
        "total": updates,
        "detail": "損失 0.512",
        "created_at": made,
        "started_at": made,
        "ended_at": "" if state == "running" else made,
        "elapsed_s": 61.5,
        "remaining_s": None,
        "heartbeat_s": 1.0,
        "error": error if state == "failed" else None,
    }


def write_metrics(path: Path, updates: int) -> None:
    """A metrics log as training writes it; a validation every 50 updates."""
    draw = random.Random(0)
    lines = []
    for update in range(updates + 1):
        loss = 0.4 + 3.0 * math.exp(-4.0 * update / updates)
        if update:
            lines.append(update_line(update, loss * draw.uniform(0.9, 1.1)))
        if update % 50 == 0 or update == updates:
            lines.append({"update": update, "valid_loss": loss, "elapsed_s": update * 0.5})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def update_line(update: int, loss: float) -> dict[str, float]:
    """What training records of one update."""
    return {
        "update": update,
        "loss": round(loss, 5),
        "learning_rate": 1e-3,
        "gradient_norm": 0.5,
        "supervised_tokens": 100,
        "tokens_per_second": 812.5,
        "peak_memory_gb": 1.25,
        "elapsed_s": update * 0.5,
    }


def fill(workspace: Workspace, runs: int) -> None:
    add_dataset(workspace)
    for number in range(runs):
        add_run(workspace, number)


def damage(workspace: Workspace) -> None:
    """Every kind of record, each broken in its own way."""
    fill(workspace, 8)
    add_dataset(workspace, "broken")
    workspace.dataset("broken").manifest.write_bytes(b"\x00\xff{")
    runs = [RunPaths(folder) for folder in sorted(workspace.experiments.iterdir())]
    runs[0].status.write_bytes(b"\x00\xff{")
    runs[1].experiment.unlink()
    runs[2].metrics.write_bytes(b'{"update": 1, "loss"')
    runs[3].config.write_text("{{{", encoding="utf-8")
    runs[4].job.write_text("[]", encoding="utf-8")
    runs[5].metrics.unlink()
    files.write_text(runs[6].status, json.dumps({"schema_version": 99}))
    (workspace.experiments / "20260101-000000-empty-0000").mkdir()
    workspace.preferences.write_text("{", encoding="utf-8")


def simulate(workspace: Workspace) -> str:
    """A run of the simulation, through its real worker."""
    studio = Studio(workspace)
    settings = TrainConfig(dataset="faq", engine="simulation", iterations=3, warmup=0)
    run_id = studio.training.start(settings)
    studio.runs.follow(run_id, silent)
    return run_id
