"""What a run proves about itself: true where all is well, false where something was broken."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.batches.examples import encode_rows
from mlx_finetuning.mlx_trainer.model import adapters
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.training import loop, selfcheck
from mlx_finetuning.workspace import AdapterPaths
from support.recorded_run import CONFIG, Recorder, rows


def run(tiny: LoadedModel, folder: Path, config: TrainConfig) -> loop.TrainResult:
    paths = AdapterPaths(folder)
    return loop.train(tiny, rows(7), rows(2), config, paths, Recorder().hooks())


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_every_run_proves_itself(tiny: LoadedModel, tmp_path: Path, method: str) -> None:
    result = run(tiny, tmp_path, dataclasses.replace(CONFIG, method=method))
    assert [check.kind for check in result.checks] == [
        "supervision",
        "adapter_changed",
        "adapter_reloaded",
    ]
    assert all(check.passed for check in result.checks), result.checks


def test_run_that_learns_nothing_is_told_so(tiny: LoadedModel, tmp_path: Path) -> None:
    result = run(tiny, tmp_path, dataclasses.replace(CONFIG, learning_rate=0.0))
    changed = next(check for check in result.checks if check.kind == "adapter_changed")
    assert not changed.passed
    assert "変化していません" in changed.text_ja


def test_layer_that_stands_still_is_named() -> None:
    before = {"layers.0.q.lora_a": mx.zeros(3), "layers.1.q.lora_a": mx.zeros(3)}
    after = {**before, "layers.0.q.lora_a": mx.ones(3)}
    check = selfcheck.changed(before, after)
    assert not check.passed and "layers.1.q" in check.text_ja


def test_adapter_that_differs_on_disk_is_found(tiny: LoadedModel, tmp_path: Path) -> None:
    run(tiny, tmp_path, CONFIG)
    tokens = encode_rows(tiny, rows(1), 64)[0].tokens
    good = selfcheck.reloaded(tiny, tmp_path, tokens)
    assert good is not None and good.passed
    path = tmp_path / "adapters.safetensors"
    arrays = mx.load(str(path))
    name = next(key for key in arrays if key.endswith("lora_b"))
    adapters.write_arrays(path, {**arrays, name: arrays[name] + 0.5})
    changed = selfcheck.reloaded(tiny, tmp_path, tokens)
    assert changed is not None and not changed.passed
    adapters.write_arrays(path, {f"model.{key}": value for key, value in arrays.items()})
    renamed = selfcheck.reloaded(tiny, tmp_path, tokens)
    assert renamed is not None and not renamed.passed and "mlx-lm" in renamed.text_ja


def test_wrongly_supervised_rows_are_named(tiny: LoadedModel) -> None:
    data: list[dict[str, Any]] = rows(4)
    examples = encode_rows(tiny, data, 64)
    assert selfcheck.supervision(tiny, data, examples).passed  # type: ignore[union-attr]
    everything = dataclasses.replace(examples[1], supervised=[True] * len(examples[1].tokens))
    check = selfcheck.supervision(tiny, data, [examples[0], everything])
    assert check is not None and not check.passed and str(everything.row) in check.text_ja
