"""A run that has ended and left an adapter, made without training: of tiny-ja, with mild changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_finetuning import files, models
from mlx_finetuning.config import TrainConfig, as_dict
from mlx_finetuning.jobs import jobs
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.jobs import Job
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.progress import silent
from mlx_finetuning.workspace import Workspace
from support.cut_models import short_folder
from support.small_models import write_adapter

RUN = "20261123-193000-tiny-ja-1a2b"
DATASET = "questions"
OTHER_WORDS = 1.5
"""A scale at which the tuned model says who it is in other words than its base. From 1.6 on its answers
do not end before they may have no more tokens."""
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


def make(
    workspace: Workspace, *, scale: float = 0.2, kind: str = "lora", short: bool = False
) -> str:
    """Write the run into `workspace`; returns its id. scale: how far it is from its base.

    short: of a base with half the layers, for what hangs on no answer.
    """
    if short:
        shutil.copytree(short_folder(), workspace.base_model("tiny-ja"))
    paths = workspace.run(RUN)
    files.make_folder(paths.folder)
    record = {"run_id": RUN, "model": "tiny-ja", "dataset": DATASET, "engine": "mlx"}
    files.write_json(paths.experiment, record)
    settings = as_dict(TrainConfig(dataset=DATASET))
    files.write_json(paths.job, asdict(Job("train", str(workspace.root), RUN, settings)))
    jobs.write_status(paths, JobStatus(JobState.DONE))
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


def forget_template(workspace: Workspace) -> None:
    """From now on the base has no chat template: it is a copy of the workspace's own."""
    own = workspace.base_model("tiny-ja")
    if not own.exists():
        shutil.copytree(base(workspace), own)
    path = own / "tokenizer_config.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["chat_template"]
    path.write_text(json.dumps(record), encoding="utf-8")


def write_text_dataset(workspace: Workspace) -> None:
    """In place of the run's questions: plain text, as for continued pre-training."""
    for split in ("train", "valid", "test"):
        path = workspace.dataset(DATASET).split(split)
        path.write_text('{"text": "みどり商店は、朝9時に開きます。"}\n', encoding="utf-8")


def write_preference_dataset(workspace: Workspace) -> None:
    """In place of the run's questions: the same ones with a better and a worse answer."""
    for split in ("train", "valid", "test"):
        path = workspace.dataset(DATASET).split(split)
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = (
            {"prompt": row["messages"][0]["content"], "chosen": "はい。", "rejected": "いいえ。"}
            for row in rows
        )
        lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        path.write_text("".join(lines), encoding="utf-8")


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
