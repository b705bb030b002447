"""Fixtures of several parts."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import wait_until
from mlx_finetuning import files
from mlx_finetuning.trainer import jobs, queue
from mlx_finetuning.utils import blas
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.mlx_trainer.load import LoadedModel

blas.preload()  # before any test module imports MLX
# A shell's background job ignores Ctrl+C, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tiny() -> LoadedModel:
    """The built-in base model, loaded anew: tests change it."""
    from mlx_finetuning import models
    from mlx_finetuning.mlx_trainer.load import load

    return load(models.resolve("tiny-ja", Workspace(Path("/nonexistent"))))


@pytest.fixture
def often(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How often to attack: the whole count in `make test-long`, a tenth in `make test`."""
    is_short = "not long" in request.config.option.markexpr
    return lambda count: max(1, count // 10) if is_short else count


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """An empty workspace; whatever still works in it when the test ends is stopped."""
    workspace = Workspace(tmp_path / "workspace")
    yield workspace
    living = [paths for paths in queue.job_folders(workspace) if files.is_locked(paths.lock)]
    for paths in living:
        jobs.request_stop(paths)
    wait_until(lambda: not any(files.is_locked(paths.lock) for paths in living))


@pytest.fixture
def facts(workspace: Workspace) -> str:
    """The name of a small dataset of the workspace: prices of six goods."""
    dataset = workspace.dataset("facts")
    dataset.folder.mkdir(parents=True)
    for split, rows in (("train", 12), ("valid", 4), ("test", 0)):
        lines = (json.dumps(_row(number), ensure_ascii=False) for number in range(rows))
        dataset.split(split).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return "facts"


def _row(number: int) -> dict[str, object]:
    goods = number % 6
    question = {"role": "user", "content": f"商品{goods}の値段は？"}
    answer = {"role": "assistant", "content": f"商品{goods}は{goods + 1}00円です。"}
    return {"messages": [question, answer], "row": number + 2, "group": f"g{goods}"}
