"""Pairs of a better and a worse answer: how much likelier a model holds the better one, and how often.

The margin of a pair is what its run trains: for DPO the difference of both answers' log-probabilities,
for ORPO that of the means per token, both in nats and without the training's `beta`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlx_finetuning.experiment_tracker.evaluation.comparison import Grade, Measured, per_token
from mlx_finetuning.experiment_tracker.evaluation.results import Preference
from mlx_finetuning.experiment_tracker.evaluation.statistics import ratio

MEASURE = "よい答えとの差"
MARGINS: dict[str, Callable[[Grade, Grade], float]] = {
    "dpo": lambda better, worse: worse.nats - better.nats,
    "orpo": lambda better, worse: per_token(worse) - per_token(better),
}


def preference(better: Measured, worse: Measured, objective: str, seed: int) -> Preference | None:
    """None without a pair of which both answers fit."""
    fitting = [
        at
        for at, grades in enumerate(zip(better.base, worse.base, strict=True))
        if all(grade.targets for grade in grades)
    ]
    margin = MARGINS[objective]
    base = [margin(better.base[at], worse.base[at]) for at in fitting]
    tuned = [margin(better.tuned[at], worse.tuned[at]) for at in fitting]
    gains = [after - before for before, after in zip(base, tuned, strict=True)]
    change = ratio(gains, seed=seed)
    if change is None:
        return None
    return Preference(
        pairs=len(fitting),
        base_accuracy=_share_above_zero(base),
        tuned_accuracy=_share_above_zero(tuned),
        base_margin=sum(base) / len(base),
        tuned_margin=sum(tuned) / len(tuned),
        widened=_share_above_zero(gains),
        change=change,
    )


def _share_above_zero(values: Sequence[float]) -> float:
    return sum(value > 0 for value in values) / len(values)
