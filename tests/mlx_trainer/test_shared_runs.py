"""Runs on one loaded base, one after the other: what they share is computed once, and changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.gradient import loss, skipped_work
from mlx_finetuning.mlx_trainer.gradient.skipped_work import LowerOutputs
from mlx_finetuning.mlx_trainer.model import adapter_layers
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load
from mlx_finetuning.mlx_trainer.training.loop import Shared
from support.cut_models import short_folder
from support.recorded_run import rows
from support.resumed_run import CONFIG, assert_same_runs, train

FIRST = dataclasses.replace(CONFIG, iterations=6, processes=1)
SECOND = dataclasses.replace(FIRST, rank=8, alpha=64.0, learning_rate=3e-3)
"""Another choice of a tuning."""


@pytest.fixture
def base() -> LoadedModel:
    return load(short_folder())


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    (tmp_path / "shared").mkdir()
    return Shared(LowerOutputs(tmp_path / "shared"))


def said(base: LoadedModel) -> list[Example]:
    """As if the base had made it up."""
    return encode_rows(base, rows(20)[15:], 1024)


def test_lower_outputs_of_an_earlier_run_serve_a_later_one_to_the_last_bit(
    base: LoadedModel, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "first", FIRST, loaded=base, shared=shared)
    adapter_layers.detach(base)
    outputs_of, lengths = skipped_work._outputs_of, []

    def noting(model: Any, index: int, tokens: mx.array) -> Any:
        lengths.append(tokens.shape[1])
        return outputs_of(model, index, tokens)

    monkeypatch.setattr(skipped_work, "_outputs_of", noting)
    train(tmp_path / "beside", SECOND, loaded=base, shared=shared)
    assert set(lengths) == {1}  # tried whether it can be cached, and nothing else
    train(tmp_path / "alone", SECOND)
    assert sum(length > 1 for length in lengths) >= 8
    assert_same_runs(tmp_path / "beside", tmp_path / "alone")


def test_rows_that_came_in_later_get_their_place(
    base: LoadedModel, shared: Shared, tmp_path: Path
) -> None:
    """As with other wordings, of which a choice learns more than another."""
    more = ([*rows(8), *rows(12)[8:]], rows(2))
    train(tmp_path / "first", FIRST, loaded=base, shared=shared)
    adapter_layers.detach(base)
    train(tmp_path / "beside", SECOND, loaded=base, data=more, shared=shared)
    train(tmp_path / "alone", SECOND, data=more)
    assert_same_runs(tmp_path / "beside", tmp_path / "alone")


def test_outputs_of_other_blocks_are_not_taken_for_these(
    base: LoadedModel, shared: Shared, tmp_path: Path
) -> None:
    fewer = dataclasses.replace(SECOND, num_layers=1)
    train(tmp_path / "first", FIRST, loaded=base, shared=shared)
    adapter_layers.detach(base)
    train(tmp_path / "beside", fewer, loaded=base, shared=shared)
    train(tmp_path / "alone", fewer)
    assert_same_runs(tmp_path / "beside", tmp_path / "alone")


def test_what_is_replayed_is_read_by_the_base_once_for_each_rank(
    base: LoadedModel, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other_rank = (dataclasses.replace(one, replay=2) for one in (FIRST, SECOND))
    other_rate = dataclasses.replace(first, learning_rate=3e-3)
    train(tmp_path / "first", first, loaded=base, replayed=said(base), shared=shared)
    adapter_layers.detach(base)
    with monkeypatch.context() as patch:
        patch.delattr(loss, "hidden")
        train(tmp_path / "rate", other_rate, loaded=base, replayed=said(base), shared=shared)
    adapter_layers.detach(base)
    train(tmp_path / "rank", other_rank, loaded=base, replayed=said(base), shared=shared)
    for name, config in {"rate": other_rate, "rank": other_rank}.items():
        train(tmp_path / f"{name}-alone", config, replayed=said(base))
        assert_same_runs(tmp_path / name, tmp_path / f"{name}-alone")
