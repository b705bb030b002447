"""A run kept within its memory: how its updates are computed is decided before the first one, and what
they take is looked at behind each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import MemoryRunsOut
from mlx_finetuning.language import _
from mlx_finetuning.mlx_trainer.gradient import objectives
from mlx_finetuning.mlx_trainer.model import card_memory
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.mlx_trainer.parallel.workload import Workload
from mlx_finetuning.mlx_trainer.training import memory_fit
from mlx_finetuning.mlx_trainer.training.checkpoints import TrainingState
from mlx_finetuning.progress import WriteEvent
from mlx_finetuning.utils.memory_monitor import LEFT_TO_OTHERS, read_memory


class MemoryWatch:
    """What a run takes, and what is done about it; how updates are computed stands in its state."""

    def __init__(self, config: TrainConfig, event: WriteEvent) -> None:
        self._limit_gb = config.memory_limit_gb
        self._event = event
        self.is_near = True
        """Whether the longest update is to be tried before the first one."""
        self._splits_beyond: int | None = None
        """Bytes beyond which updates are computed in smaller parts, where none was tried."""
        self._card_memory = 0

    def fit(
        self, work: Workload, state: TrainingState, *, is_resumed: bool, exactly: bool
    ) -> Workload:
        """Decide how updates are computed; a run that goes on computes them as it did. Raises
        RunDoesNotFit."""
        limit = memory_fit.allowed(work.config)
        needed = limit
        if not is_resumed:
            fit = memory_fit.fitted(work, limit, exactly=exactly)
            needed, self.is_near = fit.needed, fit.is_near
            if not (fit.is_near or work.config.micro_batch_size):
                self._splits_beyond = round(memory_fit.TOO_NEAR * limit)
            state.micro_batch_size = fit.config.micro_batch_size
            state.recompute = fit.config.recompute
            state.processes = fit.config.processes
            state.row_tokens = fit.batch_tokens or 0
            self._event("fit", **fit.figures(work))
            for text in _warnings(work, fit):
                self._event("warning", text=text)
        memory_fit.hold_to(limit, needed)
        config = dataclasses.replace(
            work.config,
            processes=state.processes,
            micro_batch_size=state.micro_batch_size,
            recompute=state.recompute,
        )
        if work.layout.shares_sequence and state.row_tokens:
            work = workload.with_batch_tokens(work, state.row_tokens)
        return dataclasses.replace(work, config=config)

    def look(self, team: workload.Team, state: TrainingState) -> None:
        """Behind an update. Raises MemoryRunsOut."""
        memory = read_memory()
        # What was held at most is held still: freed memory stays with the processes.
        used = team.peak_memory()
        if self._splits_beyond is not None and used > self._splits_beyond:
            self._split(used, team.processes, state)
        if self._limit_gb and used / 1e9 > self._limit_gb:
            used_gb, limit_gb = used / 1e9, self._limit_gb
        elif not memory.usable:
            used_gb = (memory.total - memory.available) / 1e9
            limit_gb = round((1 - LEFT_TO_OTHERS) * memory.total / 1e9, 2)
        else:
            return
        raise MemoryRunsOut(used_gb=round(used_gb, 2), limit_gb=limit_gb, update=state.update)

    def _split(self, used: int, least: int, state: TrainingState) -> None:
        """Compute the updates to come in parts half as large: more was taken than was predicted."""
        count = max(least, state.micro_batch_size // 2)
        # What is held stays held: only what comes on top of it, by more than stray pages, counts.
        self._splits_beyond = None if count == least else used + used // 20
        if count >= state.micro_batch_size:
            return
        state.micro_batch_size = count
        self._event(
            "warning",
            text=(
                _(
                    "更新 {update} までに {used:.2f} GB を使い、見積もりより多かったため、この先は {count} 例ずつに分けて計算します。"
                    "結果は変わりません。"
                ).format(update=state.update, used=used / 1e9, count=count)
            ),
        )

    def card_figures(self) -> dict[str, float]:
        """What a card with memory of its own holds for all programs; nothing without one."""
        card = card_memory.read()
        if card is None:
            return {}
        self._card_memory = max(self._card_memory, card.total - card.available)
        return {"card_memory_gb": round((card.total - card.available) / 1e9, 3)}

    @property
    def card_memory_gb(self) -> float | None:
        """The most that a card held after an update; None without one."""
        return round(self._card_memory / 1e9, 3) or None


def _warnings(work: Workload, fit: memory_fit.MemoryFit) -> Iterator[str]:
    """How updates are computed otherwise than asked for, and what that costs."""
    if not work.layout.shares_sequence and not objectives.of(work.config).is_per_item:
        yield (
            _(
                "このモデルの層では、複数の例を1行に並べて計算できません。"
                "例ごとに行を分け、余白で長さをそろえます。時間は増え、結果は変わりません。"
            )
        )
    available = _("使えるメモリーは {allowed:.2f} GB").format(allowed=fit.allowed / 1e9)
    count = fit.config.micro_batch_size
    if fit.config.recompute == "on" and work.config.recompute == "auto":
        yield (
            _(
                "{count} 例は一度にメモリーに収まらないため、層の途中の値を覚えずに計算し直します（{available}）。"
                "時間は3割ほど増え、結果は変わりません。"
            ).format(count=count, available=available)
        )
    if count < min(work.config.micro_batch_size or work.update_size, work.update_size):
        yield (
            _(
                "{update_size} 例は一度にメモリーに収まらないため、{count} 例ずつに分けて計算します（{available}）。"
                "結果は変わりません。"
            ).format(update_size=work.update_size, count=count, available=available)
        )
