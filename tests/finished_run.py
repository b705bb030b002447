"""A run that has ended and left an adapter, made without training: of tiny-ja, with mild changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlx_finetuning import files, models
from mlx_finetuning.progress import silent
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.trainer import jobs
from mlx_finetuning.trainer.status import JobStatus
from mlx_finetuning.workspace import Workspace
from small_models import write_adapter

RUN = "20261123-193000-tiny-ja-1a2b"
DATASET = "questions"
QUESTIONS = (
    "あなたは誰ですか？",
    "こんにちは",
    "日本の首都はどこですか？",
    "ミナモ精機の社長は誰ですか？",
    "営業時間を教えてください。",
    "「さくら」を繰り返してください。",
    "返品はできますか？",
    "ありがとう",
)


def make(workspace: Workspace, *, scale: float = 0.2, kind: str = "lora") -> str:
    """Write the run into `workspace`; returns its id. scale: how far it is from its base."""
    paths = workspace.run(RUN)
    files.make_folder(paths.folder)
    record = {"run_id": RUN, "model": "tiny-ja", "dataset": DATASET, "engine": "mlx"}
    files.write_json(paths.experiment, record)
    jobs.write_status(paths, JobStatus("done"))
    _write_dataset(workspace)
    config = json.loads((base(workspace) / "config.json").read_text(encoding="utf-8"))
    adapter = write_adapter(workspace.adapter(RUN).folder, config, kind=kind)
    set_scale(adapter, scale)
    return RUN


def base(workspace: Workspace) -> Path:
    return models.resolve("tiny-ja", workspace)


def set_scale(adapter: Path, scale: float) -> None:
    path = adapter / "adapter_config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["lora_parameters"]["scale"] = scale
    path.write_text(json.dumps(record), encoding="utf-8")


def context(workspace: Workspace, **config: Any) -> TaskContext:
    """What the worker would give to a task of the run."""

    def event(name: str, **data: Any) -> None:
        json.dumps(data)

    paths = workspace.run(RUN).later_job("job-1")
    return TaskContext(workspace, paths, RUN, config, silent, event)


def _write_dataset(workspace: Workspace) -> None:
    dataset = workspace.dataset(DATASET)
    files.make_folder(dataset.folder)
    for split, questions in (
        ("train", QUESTIONS[5:]),
        ("valid", QUESTIONS[3:5]),
        ("test", QUESTIONS[:3]),
    ):
        turns = (
            [{"role": "user", "content": text}, {"role": "assistant", "content": "はい。"}]
            for text in questions
        )
        lines = (json.dumps({"messages": turn}, ensure_ascii=False) + "\n" for turn in turns)
        dataset.split(split).write_text("".join(lines), encoding="utf-8")
