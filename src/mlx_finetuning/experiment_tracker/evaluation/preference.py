"""Pairs of a better and a worse answer: how much likelier a model holds the better one, and how often.

The margin of a pair is what its run trains: for DPO the difference of both answers' log-probabilities,
for ORPO that of the means per token, both in nats and without the training's `beta`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_finetuning.experiment_tracker.evaluation.comparison import Grade, Measured, per_token
from mlx_finetuning.experiment_tracker.evaluation.statistics import Interval, ratio

MEASURE = "よい答えとの差"
MARGINS: dict[str, Callable[[Grade, Grade], float]] = {
    "dpo": lambda better, worse: worse.nats - better.nats,
    "orpo": lambda better, worse: per_token(worse) - per_token(better),
}


@dataclass(frozen=True)
class Preference:
    """The pairs of a split, of which both answers fit."""

    pairs: int
    base_accuracy: float
    """Share of pairs whose better answer is the likelier one."""
    tuned_accuracy: float
    base_margin: float
    tuned_margin: float
    widened: float
    """Share of pairs whose margin has grown: what DPO calls accuracy."""
    change: Interval
    """Of the margin, paired."""


def preference(better: Measured, worse: Measured, objective: str, seed: int) -> Preference | None:
    """None without a pair of which both answers fit."""
    fitting = [
        at
        for at, pair in enumerate(zip(better.base, worse.base, strict=True))
        if all(grade.targets for grade in pair)
    ]
    base = _margins(better.base, worse.base, fitting, objective)
    tuned = _margins(better.tuned, worse.tuned, fitting, objective)
    gains = [after - before for before, after in zip(base, tuned, strict=True)]
    change = ratio(gains, seed=seed)
    if change is None:
        return None
    return Preference(
        pairs=len(fitting),
        base_accuracy=_share(base),
        tuned_accuracy=_share(tuned),
        base_margin=sum(base) / len(base),
        tuned_margin=sum(tuned) / len(tuned),
        widened=_share(gains),
        change=change,
    )


def as_record(found: Preference | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _margins(
    better: Sequence[Grade], worse: Sequence[Grade], rows: Sequence[int], objective: str
) -> list[float]:
    margin = MARGINS[objective]
    return [margin(better[at], worse[at]) for at in rows]


def _share(values: Sequence[float]) -> float:
    return sum(value > 0 for value in values) / len(values)
