"""How a training came to its end, as far as its losses tell: whole, diverged, early, past its best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlx_finetuning.jobs.results import TrainResult
from mlx_finetuning.language import _

CLEARLY_WORSE = 0.05
"""Share by which the last validation loss must be over the best one to be worth a word."""


@dataclass(frozen=True)
class Ending:
    """A state for programs, and what there is to say of it."""

    state: str = "whole"
    """`whole`, `diverged`, `stopped_early` or `best_before_last`."""
    text: str = ""
    """For people; empty for a run that came to its end as it should."""


WHOLE = Ending()


def ending(result: TrainResult) -> Ending:
    """Judged by the losses that the run kept; engines that keep none end whole."""
    first, best, last = result.first_valid_loss, result.best_valid_loss, result.last_valid_loss
    trained = result.last_loss
    is_lost = trained is not None and not math.isfinite(trained)
    if first is not None and last is not None and trained is not None:
        is_lost = is_lost or min(last, trained) > first
    if is_lost:
        return Ending("diverged", _("学習は発散しました。損失が、始めより大きくなっています。"))
    if result.stopped_early:
        text = _(
            "検証の損失が下がらなくなったため、更新{updates:,}回で早めに終わりました（最良は{best_update:,}回のとき）。"
        ).format(updates=result.updates, best_update=result.best_update or 0)
        return Ending("stopped_early", text)
    if best is not None and last is not None and last > (1 + CLEARLY_WORSE) * best:
        text = _(
            "検証の損失が最も小さかったのは、更新{best_update:,}回のときです（{best:.3f}、最後の{updates:,}回では{last:.3f}）。"
            "調べるのは、最後のモデルです。"
        ).format(best_update=result.best_update or 0, best=best, updates=result.updates, last=last)
        return Ending("best_before_last", text)
    return WHOLE
