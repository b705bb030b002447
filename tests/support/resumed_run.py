"""A small run that is stopped, killed and resumed, and what must be the same afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig, read_yaml
from mlx_finetuning.errors import Interrupted
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.mlx_trainer.batches.examples import Example
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.progress import Step, silent
from mlx_finetuning.workspace import AdapterPaths
from support.cut_models import short_folder
from support.recorded_run import rows

CONFIG = TrainConfig(
    iterations=12,
    batch_size=3,
    rank=4,
    dropout=0.2,
    warmup=2,
    validate_every=4,
    checkpoint_every=3,
    num_layers=2,
    sample_every=0,
)


FIRST = "old_workspace/experiments/20261128-212634-tiny-ja-3470/config.yaml"
"""The settings of a run of version 0.1.0."""
CLOCKS = {"elapsed_s", "tokens_per_second", "peak_memory_gb"}


def former(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as version 0.1.0 had them, whose beta was DPO's where nothing needed one."""
    known = read_yaml(Path(__file__).parent / FIRST)
    return {name: value for name, value in settings.items() if name in known} | {"beta": 0.1}


def marked(step: Step) -> None:
    """Says on standard output where it is, and leaves time to be killed there."""
    if step.stage == loop.STAGE:
        print(step.done, flush=True)  # noqa: T201
        time.sleep(0.05)


def train(
    folder: Path,
    config: TrainConfig = CONFIG,
    progress: Callable[[Step], None] = silent,
    loaded: LoadedModel | None = None,
    data: tuple[Sequence[Any], Sequence[Any]] | None = None,
    replayed: Sequence[Example] = (),
    parent: loop.Parent | None = None,
    event: Callable[..., None] = lambda name, **_: None,
    shared: loop.Shared | None = None,
) -> TrainResult:
    """A sitting of the run in `folder`: it goes on where the last one was saved."""
    given: tuple[Any, Any] = data or (rows(8), rows(2))
    learned, held_out = given
    log = folder / "metrics.jsonl"

    def rewind(update: int) -> None:
        for path in (log, folder / "samples.jsonl"):
            files.cut_lines(path, lambda line: line["update"] <= update)

    with files.LineLog(log) as metrics, files.LineLog(folder / "samples.jsonl") as samples:
        hooks = loop.Hooks(metrics.append, event, progress, rewind, samples.append)
        return loop.train(
            loaded or load(short_folder()),
            learned,
            held_out,
            config,
            AdapterPaths(folder),
            hooks,
            replayed,
            parent,
            shared=shared,
        )


def lines(folder: Path) -> list[dict[str, Any]]:
    found = files.read_lines(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in found]


def metrics(folder: Path, name: str) -> list[float]:
    return [line[name] for line in lines(folder) if name in line]


def assert_same_runs(folder: Path, other: Path) -> None:
    """To the last bit."""
    assert lines(folder) == lines(other)
    ours, theirs = (
        cast(dict[str, mx.array], mx.load(str(one / "adapters.safetensors")))
        for one in (folder, other)
    )
    assert all((np.array(ours[key]) == np.array(theirs[key])).all() for key in theirs)


def stop_at(update: int) -> Callable[[Step], None]:
    def stop(step: Step) -> None:
        if step.stage == loop.STAGE and step.done == update:
            raise Interrupted()

    return stop
