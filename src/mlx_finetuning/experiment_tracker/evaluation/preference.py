"""Better and worse answers: how much likelier a model holds the better ones, and how often.

The margin of a pair is what its run trains: for DPO the difference of both answers' log-probabilities,
for ORPO and SimPO that of the means per token, both in nats and without the training's `beta`. Answers
that are judged by themselves (KTO) are no pairs: each good one is compared with each bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlx_finetuning.experiment_tracker.evaluation.comparison import Grade, Measured, per_token
from mlx_finetuning.experiment_tracker.evaluation.results import Preference
from mlx_finetuning.experiment_tracker.evaluation.statistics import difference, ratio
from mlx_finetuning.language import N_

MEASURE = N_("よい答えとの差", "measure")
MARGINS: dict[str, Callable[[Grade, Grade], float]] = {
    "dpo": lambda better, worse: worse.nats - better.nats,
    "orpo": lambda better, worse: per_token(worse) - per_token(better),
    "simpo": lambda better, worse: per_token(worse) - per_token(better),
}


def unpaired(good: Measured, bad: Measured, seed: int) -> Preference | None:
    """None unless there are answers of both kinds. Margins are between whole log-probabilities, which
    are what is trained; which answer is the likelier one is told by the means per token, as answers to
    other questions have other lengths."""

    def gaps(goods: Sequence[float], bads: Sequence[float]) -> list[float]:
        return [better - worse for better in goods for worse in bads]

    gains = [
        [base.nats - tuned.nats for base, tuned in zip(one.base, one.tuned, strict=True)]
        for one in (good, bad)
    ]
    change = difference(gains[0], gains[1], seed)
    if change is None:
        return None
    means = [
        gaps(*([-per_token(grade) for grade in grades] for grades in side))
        for side in ((good.base, bad.base), (good.tuned, bad.tuned))
    ]
    wholes = [
        gaps(*([-grade.nats for grade in grades] for grades in side))
        for side in ((good.base, bad.base), (good.tuned, bad.tuned))
    ]
    widened = gaps(*gains)
    return Preference(
        pairs=len(widened),
        base_accuracy=_share_above_zero(means[0]),
        tuned_accuracy=_share_above_zero(means[1]),
        base_margin=sum(wholes[0]) / len(widened),
        tuned_margin=sum(wholes[1]) / len(widened),
        widened=_share_above_zero(widened),
        change=change,
    )


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
