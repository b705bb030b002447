"""Packed weights on the CPU: unpacked for a training where memory allows, and what is said of it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_finetuning.mlx_trainer.model import unpacking
from mlx_finetuning.mlx_trainer.model.load import load
from mlx_finetuning.mlx_trainer.training import loop
from mlx_finetuning.workspace import AdapterPaths
from support.recorded_run import CONFIG, Recorder, rows
from support.small_models import write_model, write_quantized
from support.sweeps import sweep


@pytest.fixture
def base(family: str, tmp_path: Path) -> Path:
    """Of four bits; the head of gemma2 is its embedding."""
    write_model(tmp_path / "whole", family)
    write_quantized(tmp_path / "whole", tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("family", "method"),
    sweep(itertools.product(("", "gemma2"), ("lora", "dora")), (("", "dora"), ("gemma2", "lora"))),
)
def test_an_unpacked_base_learns_what_a_packed_one_does(
    base: Path, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, runs = {}, {}
    config = dataclasses.replace(CONFIG, method=method, iterations=3)
    for fits in (True, False):
        monkeypatch.setattr(unpacking, "fits", lambda values, fits=fits: fits)
        loaded, recorder = load(base), Recorder()
        loop.train(
            loaded, rows(7), rows(2), config, AdapterPaths(tmp_path / str(fits)), recorder.hooks()
        )
        assert unpacking.is_packed(loaded.model) is not fits
        losses[fits], runs[fits] = recorder.losses, recorder
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert "unpacked" in runs[True].events and "unpacked" not in runs[False].events
    assert any("そのまま使います" in text for text in runs[False].warnings)


def test_half_of_the_memory_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        total = 8_000

    monkeypatch.setattr(unpacking, "read_memory", Memory)
    assert unpacking.fits(1_000)
    assert not unpacking.fits(1_001)


@pytest.mark.parametrize("family", ["", "gemma2"])
def test_all_the_same_values_and_no_random_numbers_drawn(base: Path) -> None:
    model = load(base).model
    before = mx.random.state[0].tolist()
    tokens = mx.arange(9)[None]
    packed = model(tokens)
    unpacking.unpack_where_it_fits(model)
    assert not any(isinstance(part, nn.QuantizedLinear) for _, part in model.named_modules())
    assert mx.allclose(model(tokens), packed, rtol=1e-4, atol=1e-5)
    assert mx.random.state[0].tolist() == before
    assert not model.layers[0].mlp.up_proj.trainable_parameters()
