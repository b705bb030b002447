"""Memory of a GPU that has its own, told by an MLX that says what its CUDA backend would."""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import pytest

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.mlx_trainer.model import card_memory
from mlx_finetuning.mlx_trainer.training import memory_fit
from mlx_finetuning.utils.memory_monitor import Memory

GB = 10**9


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """80 GB of which 30 are free, in a machine with less."""
    about = {"device_name": "NVIDIA H100", "total_memory": 80 * GB, "free_memory": 30 * GB}
    monkeypatch.setattr(mx, "device_info", lambda: about)
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
    monkeypatch.setattr(memory_fit, "read_memory", lambda: Memory(16 * GB, 2 * GB))
    return Memory(80 * GB, 30 * GB)


def test_run_may_take_what_is_free_on_the_card_whatever_the_machine_has(card: Memory) -> None:
    held = mx.get_active_memory() + mx.get_cache_memory()
    assert card_memory.read() == card
    # A twentieth is left to others.
    assert memory_fit.allowed(TrainConfig()) == pytest.approx(26 * GB + held, abs=GB / 100)
    limited = dataclasses.replace(TrainConfig(), memory_limit_gb=3.0)
    assert memory_fit.allowed(limited) == 3 * GB


def test_few_freed_arrays_are_kept(card: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    monkeypatch.setattr(mx, "set_memory_limit", limits.append)
    monkeypatch.setattr(mx, "set_cache_limit", limits.append)
    memory_fit.hold_to(26 * GB, 8 * GB)
    assert limits == [26 * GB, GB]


def test_on_the_cpu_arrays_lie_in_the_machines_memory() -> None:
    assert card_memory.read() is None
