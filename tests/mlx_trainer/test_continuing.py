"""A finished run goes on as another one: from its adapter and its optimizer's state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import ContinuationDiffers
from mlx_finetuning.mlx_trainer.training.loop import Parent
from mlx_finetuning.workspace import AdapterPaths
from support.recorded_run import rows
from support.resumed_run import lines, train

CONFIG = TrainConfig(
    iterations=6,
    batch_size=8,
    rank=4,
    learning_rate=2e-3,
    schedule="constant",
    warmup=0,
    num_layers=1,
    validate_every=3,
    max_length=64,
    sample_every=0,
)
HALF = dataclasses.replace(CONFIG, iterations=3)
DATA = (rows(8), rows(4))


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder) if "loss" in line]


def valid_losses(folder: Path) -> list[float]:
    return [line["valid_loss"] for line in lines(folder) if "valid_loss" in line]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    train(folder, HALF, data=DATA)
    return folder


def continued(folder: Path, parent: Path, config: TrainConfig = HALF, **changes: Any) -> Any:
    before = Parent(AdapterPaths(parent), same_optimizer=changes.pop("same_optimizer", True))
    return train(
        folder, dataclasses.replace(config, continues="first"), data=DATA, parent=before, **changes
    )


def test_run_goes_on_as_if_it_had_been_one(first: Path, tmp_path: Path) -> None:
    """Every update sees all rows, so that it does not matter that their order begins anew."""
    train(tmp_path / "whole", CONFIG, data=DATA)
    continued(tmp_path / "second", first)
    whole = losses(tmp_path / "whole")
    assert losses(first) == pytest.approx(whole[:3], rel=1e-5)
    assert losses(tmp_path / "second") == pytest.approx(whole[3:], rel=1e-4)
    # The first validation is of the parent's adapter.
    assert valid_losses(tmp_path / "second")[0] == pytest.approx(valid_losses(first)[-1], rel=1e-5)


def test_without_the_optimizers_state_the_weights_go_on(first: Path, tmp_path: Path) -> None:
    continued(tmp_path / "with", first)
    continued(tmp_path / "without", first, same_optimizer=False)
    with_state, without = losses(tmp_path / "with"), losses(tmp_path / "without")
    assert without[0] == pytest.approx(with_state[0], rel=1e-6)
    assert without[2] != pytest.approx(with_state[2], rel=1e-5)


def test_adapter_of_another_form_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(ContinuationDiffers):
        continued(tmp_path, first, dataclasses.replace(HALF, rank=8))
