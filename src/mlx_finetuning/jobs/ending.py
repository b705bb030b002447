"""How a training came to its end, as far as its losses tell: whole, diverged, early, past its best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlx_finetuning.jobs.results import TrainResult

CLEARLY_WORSE = 0.05
"""Share by which the last validation loss must be over the best one to be worth a word."""


@dataclass(frozen=True)
class Ending:
    """A state for programs, and what there is to say of it."""

    state: str = "whole"
    """`whole`, `diverged`, `stopped_early` or `best_before_last`."""
    text: str = ""
    """In Japanese; empty for a run that came to its end as it should."""


WHOLE = Ending()


def ending(result: TrainResult) -> Ending:
    """Judged by the losses that the run kept; engines that keep none end whole."""
    first, best, last = result.first_valid_loss, result.best_valid_loss, result.last_valid_loss
    trained = result.last_loss
    is_lost = trained is not None and not math.isfinite(trained)
    if first is not None and last is not None and trained is not None:
        is_lost = is_lost or min(last, trained) > first
    if is_lost:
        return Ending("diverged", "学習は発散しました。損失が、始めより大きくなっています。")
    if result.stopped_early:
        text = (
            f"検証の損失が下がらなくなったため、更新{result.updates:,}回で早めに終わりました"
            f"（最良は{result.best_update or 0:,}回のとき）。"
        )
        return Ending("stopped_early", text)
    if best is not None and last is not None and last > (1 + CLEARLY_WORSE) * best:
        text = (
            f"検証の損失が最も小さかったのは、更新{result.best_update or 0:,}回のときです"
            f"（{best:.3f}、最後の{result.updates:,}回では{last:.3f}）。調べるのは、最後のモデルです。"
        )
        return Ending("best_before_last", text)
    return WHOLE
