"""Small tools of several tests."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from mlx_finetuning import files
from mlx_finetuning.jobs import jobs, queue
from mlx_finetuning.tokenization import chat_template
from mlx_finetuning.workspace import JobPaths, Workspace

if TYPE_CHECKING:
    from mlx_finetuning.mlx_trainer.model.load import LoadedModel


def with_template(loaded: LoadedModel, template: str | None) -> LoadedModel:
    """The model with another chat template, or with none."""
    chat = loaded.chat
    settled = chat_template.settled(template, chat.files.named) if template else None
    chat.tokenizer.chat_template = settled.text if settled else None
    return replace(loaded, chat=replace(chat, template=settled))


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def stop_jobs(workspace: Workspace) -> None:
    """Stop whatever still works in the workspace, and wait for its end."""
    living = [paths for paths in queue.job_folders(workspace) if files.is_locked(paths.lock)]
    for paths in living:
        jobs.request_stop(paths)
    wait_until(lambda: not any(files.is_locked(paths.lock) for paths in living))


def worker_process(paths: JobPaths) -> psutil.Process:
    """The job's worker; the application itself never looks for processes."""
    listed = psutil.process_iter(["cmdline"])
    return next(p for p in listed if str(paths.folder) in (p.info["cmdline"] or []))


@contextmanager
def jobs_in_process() -> Iterator[None]:
    """Jobs are done by this process before whoever starts them goes on, within the block: a worker's
    imports take longer than most of them. Model servers live on, and stay processes.
    """
    from mlx_finetuning import mlx_trainer, worker
    from mlx_finetuning.jobs import reporter, scheduling

    start_worker = jobs._start_worker

    def work(paths: JobPaths, lock_descriptor: int) -> None:
        if jobs.read_job(paths).kind == "serve_model":
            start_worker(paths, lock_descriptor)
        else:
            worker._worked(paths, reporter.Reporter(paths))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "_start_worker", work)
        # What a process settles for itself would stay with the tests.
        patch.setattr(scheduling, "as_batch_work", lambda: None)
        patch.setattr(mlx_trainer, "for_training", lambda: None)
        yield


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes within the block, as on a disk that is full.

    Keep the block short: the limit holds for pytest's own output too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_facts(workspace: Workspace, name: str = "facts") -> str:
    """A small dataset: prices of six goods, asked for twice each; returns its name."""
    dataset = workspace.dataset(name)
    dataset.folder.mkdir(parents=True)
    for split, rows in (("train", 12), ("valid", 4), ("test", 0)):
        lines = (json.dumps(_row(number), ensure_ascii=False) for number in range(rows))
        dataset.split(split).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def _row(number: int) -> dict[str, object]:
    goods = number % 6
    question = {"role": "user", "content": f"商品{goods}の値段は？"}
    answer = {"role": "assistant", "content": f"商品{goods}は{goods + 1}00円です。"}
    return {"messages": [question, answer], "row": number + 2, "group": f"g{goods}"}
