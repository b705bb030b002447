"""Whether a run fits into memory, and how it is made to fit: measured on an example.

One process computes the gradient of a short example; from what that takes, the memory of any number
of examples follows. Where this comes near what the run may take, the longest example is measured
instead. An update that does not fit at once is computed in parts, and where not
even one example per process fits, blocks are computed again for their gradients. What cannot be
made to fit is refused with figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import RunDoesNotFit
from mlx_finetuning.mlx_trainer.gradient import backward
from mlx_finetuning.mlx_trainer.gradient.objectives import Item
from mlx_finetuning.mlx_trainer.model import card_memory, gguf_weights
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.parallel.gradient_team import GradientTeam, cost, divide
from mlx_finetuning.mlx_trainer.parallel.workload import Workload
from mlx_finetuning.utils import gguf_base, safetensors_header
from mlx_finetuning.utils.memory_monitor import read_memory, used_memory
from mlx_finetuning.utils.model_settings import OUTSIDE_TEXT

SPARE = 1.15
"""What a process holds for each byte in use: allocators leave gaps."""
NEAR = 0.5
"""Share of what a run may take beyond which a prediction is made of the longest example."""
ROOMY = 0.7
"""Share of what a run may take that wide batches may need."""
TOO_NEAR = 0.8
"""Share of what a run may take beyond which its updates are computed in smaller parts."""
SHORT = 128
"""Tokens that an example needs for a prediction: with less, what does not grow with them counts."""


@dataclass(frozen=True)
class Need:
    """What one process takes."""

    fixed: int
    """Bytes before the first update: program, weights, adapter, optimizer."""
    per_cost: float
    """Bytes for each unit of an update's cost."""

    def of(self, work: Workload, count: int) -> int:
        """Bytes that all processes together need for the `count` longest examples at once."""
        parts = divide(work.longest(count), workload.processes(work))
        return round(
            sum(self.fixed + SPARE * self.per_cost * _cost_at_once(work, part) for part in parts)
        )


@dataclass(frozen=True)
class MemoryFit:
    """How a run's updates are computed, and what that needs."""

    config: TrainConfig
    """With `processes`, `micro_batch_size` and `recompute` decided."""
    largest: int
    """Examples that fit at once, computed without parts."""
    needed: int
    """Bytes, estimated."""
    allowed: int
    """Bytes that the run may take."""
    batch_tokens: int | None
    """Tokens that examples sharing a sequence have together; None where each has its own."""

    @property
    def is_near(self) -> bool:
        """Whether it could be wrong by so little that the longest update has to be tried first."""
        return self.needed > NEAR * self.allowed

    def figures(self, work: Workload) -> dict[str, float]:
        """For the event `fit`."""
        return {
            "rows": len(work.examples),
            "longest_tokens": max(len(item.tokens) for item in work.examples),
            "tokens_per_update": round(work.tokens / len(work.examples) * work.update_size),
            "updates": work.config.iterations,
            "kept_gb": _gb(self.config.processes * workload.cache_bytes(work)),
            "processes": self.config.processes,
            "micro_batch_size": self.config.micro_batch_size,
            "recompute": self.config.recompute == "on",
            "largest_batch_size": self.largest,
            "needed_gb": _gb(self.needed),
            "available_gb": _gb(self.allowed),
        }


def fitted(work: Workload, limit: int, *, exactly: bool = False) -> MemoryFit:
    """Decide what the settings leave open, within `limit` bytes. Raises RunDoesNotFit.

    exactly: measured on the longest example, however far the limit is.
    """
    config = work.config
    wanted = min(config.micro_batch_size or work.update_size, work.update_size)
    least = wanted if config.micro_batch_size else min(workload.processes(work), work.update_size)
    for recompute in ("off", "on") if config.recompute == "auto" else (config.recompute,):
        tried = _replaced(work, recompute=recompute)
        need = measured(tried, tried.longest(1) if exactly else _short(tried))
        if not exactly and need.of(tried, wanted) > NEAR * limit:
            need = measured(tried, tried.longest(1))
        largest = largest_of(tried, need, limit)
        if largest >= least:
            break
    else:
        raise RunDoesNotFit(
            needed_gb=_gb(need.of(tried, least)),
            available_gb=_gb(limit),
            batch_size=least,
            largest=largest,
        )
    count = min(wanted, largest)
    tried = _replaced(tried, micro_batch_size=count, processes=workload.processes(work))
    for wider in workload.wider_batches(tried):
        if need.of(wider, count) <= ROOMY * limit:
            tried = wider
            break
    return MemoryFit(tried.config, largest, need.of(tried, count), limit, tried.layout.batch_tokens)


def _short(work: Workload) -> list[Item]:
    """The shortest example of `SHORT` tokens, or the longest one."""
    ordered = work.longest(len(work.examples))
    enough = [example for example in ordered if len(example.tokens) >= SHORT]
    return (enough or ordered[:1])[-1:]


def _replaced(work: Workload, **changes: Any) -> Workload:
    return dataclasses.replace(work, config=dataclasses.replace(work.config, **changes))


def allowed(config: TrainConfig) -> int:
    """Bytes a run may take in all: its setting, or what is free and what this process has."""
    if config.memory_limit_gb:
        return int(config.memory_limit_gb * 1e9)
    if mx.default_device() == mx.cpu:
        return read_memory().usable + used_memory()
    card = card_memory.read()
    if card is not None:
        return card_memory.allowed(card)
    return min(_device_memory(), read_memory().usable + mx.get_active_memory())


def _device_memory() -> int:
    info: dict[str, Any] = mx.device_info()
    return int(info.get("max_recommended_working_set_size") or info["memory_size"])


def hold_to(limit: int, needed: int) -> None:
    """Let Metal fail an allocation beyond `limit` instead of pushing everything else into swap, and
    MLX hold of a card no more than `limit`, and little that is freed of the `needed` bytes.

    Elsewhere the loop looks after each update. Not tried on a Mac yet.
    """
    if mx.metal.is_available():
        mx.set_memory_limit(limit)
        mx.set_wired_limit(min(limit, _device_memory()))
    elif card_memory.read() is not None:
        card_memory.hold_to(limit, needed)


def require_loadable(folder: Path, config: TrainConfig) -> None:
    """By formula, because nothing may be run yet: refuse weights that cannot fit at all.

    Raises RunDoesNotFit.
    """
    needed, limit = weights_bytes(folder), allowed(config)
    if needed > limit:
        raise RunDoesNotFit(needed_gb=_gb(needed), available_gb=_gb(limit), batch_size=1, largest=0)


def weights_bytes(folder: Path) -> int:
    """Bytes of a model's weights once loaded: on the CPU floats of any width become float32,
    but for a GGUF base's matrices of half precision. Of a model that sees too, its text part's.
    """
    base = gguf_base.read(folder)
    if base is not None:
        return gguf_weights.loaded_bytes(base)
    widths = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
    total = 0
    for path in folder.glob("model*.safetensors"):
        for tensor in safetensors_header.read(path).tensors.values():
            if tensor.name.startswith(OUTSIDE_TEXT):
                continue
            stored = tensor.stop - tensor.start
            widened = mx.default_device() == mx.cpu and tensor.dtype in widths
            total += stored * 4 // widths[tensor.dtype] if widened else stored
    return total


def measured(work: Workload, examples: list[Item]) -> Need:
    """What the gradient of these examples takes in this process."""
    gradient = backward.gradient_for(work.loaded.model, work.config)  # which may hold arrays
    fixed = used_memory() if mx.default_device() == mx.cpu else mx.get_active_memory()
    team = GradientTeam(work.loaded.model, work.layout, gradient)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    work.loaded.model.train()
    team.sums(examples, (work.config.seed, 0)).waited_for()
    taken = mx.get_peak_memory() - before
    return Need(fixed, taken / _cost_at_once(work, examples))


def largest_of(work: Workload, need: Need, limit: int) -> int:
    """The most of the longest examples that fit at once; 0 if not even one does."""
    low, high = 0, len(work.examples)
    while low < high:
        middle = (low + high + 1) // 2
        if need.of(work, middle) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def parts(examples: Sequence[Any], at_once: int) -> list[list[Any]]:
    """An update's examples in parts of about `at_once`, of nearly equal work."""
    count = -(-len(examples) // at_once)
    return [list(examples)] if count == 1 else divide(examples, count)


def _cost_at_once(work: Workload, examples: Sequence[Any]) -> float:
    """Of the most expensive batch, with what fills it up."""

    def of_batch(group: Sequence[Any]) -> float:
        lengths = [len(item.tokens) for item in group]
        return sum(map(cost, lengths)) + -sum(lengths) % work.layout.step

    return max(map(of_batch, work.layout.grouped(examples)))


def _gb(size: float) -> float:
    return round(size / 1e9, 3)
