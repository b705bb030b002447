"""標準モード: a rehearsal of a training run with made-up numbers, for machines without MLX.

Walks through the same folder, states and files as a real run. Every line and text is marked as a
simulation. No weights, no model, no MLX, and never an adapter. Deterministic for a seed.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass

from mlx_finetuning import files
from mlx_finetuning.config import TrainConfig
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.language import N_, _
from mlx_finetuning.progress import Step

STAGE = N_("シミュレーション")
UPDATE_S = 0.01
"""Seconds an update pretends to take."""
START_LOSS, FLOOR_LOSS = 3.2, 0.35


@dataclass(frozen=True)
class SimulatedLosses:
    """A loss that falls like a training run's: exponentially, with noise."""

    updates: int
    seed: int

    def loss(self, update: int) -> float:
        """Of the training batch."""
        noise = random.Random(f"{self.seed}:{update}").gauss(0.0, 0.04)
        return round(self._trend(update) * (1.0 + noise), 4)

    def valid_loss(self, update: int) -> float:
        """A little above, and without noise."""
        return round(self._trend(update) * 1.08, 4)

    def _trend(self, update: int) -> float:
        fall = math.exp(-4.0 * update / max(self.updates, 1))
        return FLOOR_LOSS + (START_LOSS - FLOOR_LOSS) * fall


def run(context: TaskContext, config: TrainConfig) -> TrainResult:
    """Rehearse `config`; the result holds no adapter. Raises Interrupted."""
    curve = SimulatedLosses(config.iterations, config.seed)
    context.event("warning", text=_("シミュレーションです。学習は行われず、数値は作りものです。"))
    with files.LineLog(context.workspace.run(context.run_id).metrics) as metrics:
        started_s = time.monotonic()
        for update in range(config.iterations + 1):
            common = {"elapsed_s": round(time.monotonic() - started_s, 3), "simulated": True}
            if update:
                metrics.append({"update": update, "loss": curve.loss(update), **common})
            if update % config.validate_every == 0 or update == config.iterations:
                valid_loss = curve.valid_loss(update)
                metrics.append({"update": update, "valid_loss": valid_loss, **common})
            detail = _("シミュレーションの損失 {loss:.3f}").format(loss=curve.loss(update))
            context.progress(Step(_(STAGE), update, config.iterations, detail))
            time.sleep(UPDATE_S)
    return TrainResult(
        simulated=True,
        note=_("シミュレーションの結果です。学習した重みはありません。"),
        updates=config.iterations,
        first_valid_loss=curve.valid_loss(0),
        last_valid_loss=curve.valid_loss(config.iterations),
    )
