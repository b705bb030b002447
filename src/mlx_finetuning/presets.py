"""Three ways to train, derived from goal, method, model and the amount of data: a trial, the usual,
thorough.

The table of defaults, each with its source or measurement; every value can be changed afterwards.

| setting | goes by | value | from |
|---|---|---|---|
| rate | method, width | `METHOD_RATES` × `rate_for(width)` | "LoRA Without Regret" (Thinking Machines 2025) |
| rate beside replay | width | three times, from 512 to 1,023 | measured on SmolLM2-135M: 1e-3 to 4e-3 |
| rank, alpha | – | 16, 32; trial 8, 16; thorough 32, 64 | measured: 4, 16, 64 |
| rank of facts | rows, width | 64 from 200 rows, below a width of 512 | measured on tiny-ja: 4, 16, 64 |
| updates | goal, rows | `AMOUNTS` | measured on tiny-ja and SmolLM2 |
| rate of pairs | goal | a tenth | DPO's own (Rafailov et al. 2023: 1e-6 for full tuning) |

Measured on SmolLM2-135M's real weights (width 576; 132 rows, 480 unseen wordings in ten seeds;
benchmarks/README.md): without replay 1e-3 answers 361 and keeps 56% of what the base knew; with it, at
its weight of 2, 3e-3 answers 361 and keeps 86%. At weight 1, 2e-3 answers 2.8 points less and 3e-3
1.3 more, but both keep less. Of a grid of four rates, three ranks and two lengths (one seed, without
replay) no other value was better by more than seeds differ.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.language import _
from mlx_finetuning.models import BUILT_IN

PRESETS = ("trial", "usual", "thorough")
TRIAL_UPDATES = 30


@dataclass(frozen=True)
class Amount:
    """How often the usual training goes through the data."""

    seen_rows: int = 1200
    """Rows that are looked at in all: small data is gone through more often."""
    least_passes: int = 3
    most_passes: int = 25
    rate: float = 1.0
    """By which the learning rate is multiplied, beside `METHOD_RATES`."""


AMOUNTS = {
    "faq": Amount(2400, 5, 50),  # a fact that is nearly known is not known
    "text": Amount(1200, 2, 10),
    "preference": Amount(1200, 1, 5, rate=0.1),  # what DPO needs, by its own setting's words
}
"""By goal, where it is not the usual."""
NEVER_REPLAYED = ("text", "preference")
"""Goals beside whose rows nothing is replayed."""
MANY_FACTS, NARROW, RANK_OF_MANY = 200, 512, 64
"""Rows of facts from which a model of less width than this needs this rank to hold them: tiny-ja answers
27 of 80 wordings after 240 rows at rank 16, 75 at 64, and forgets no more (docs/decisions.md)."""
REPLAYED_WIDTHS, REPLAYED_RATE = range(512, 1024), 3.0
"""Widths at which something is replayed by itself, and a rate was measured that learns as much
beside it as the table's does alone; by what the table's is multiplied. Wider models were not tried."""
METHOD_RATES = {"lora": 1.0, "dora": 1.0, "full": 0.1}
"""By method, what the rate of LoRA is multiplied by: full tuning's best is a tenth of it (ibid.)."""
LARGE_MODEL_RATE = 2e-4
"""Learning rate where a model's width is not known."""
HIGHEST_RATE = 1e-3


@dataclass(frozen=True)
class Preset:
    """One way to train."""

    key: str
    title: str
    reason: str
    """Japanese: what it does, and why these figures."""
    settings: TrainConfig


def rate_for(width: int) -> float:
    """Adam's rate for LoRA at alpha 32, by the size of the hidden states; 0 where it is not known.

    The fit of "LoRA Without Regret" (Thinking Machines, 2025) to Llama models: 10 times the rate
    of full tuning, falling with the width to the power of 0.78. Rounded to two digits.
    """
    if not width:
        return LARGE_MODEL_RATE
    return float(f"{min(HIGHEST_RATE, 5e-4 * (2000 / width) ** 0.78):.1e}")


def presets(base: TrainConfig, rows: int, width: int = 0, goal: str = "") -> list[Preset]:
    """`base` names model and dataset and holds the user's defaults; `rows` are training rows.

    width: size of the model's hidden states; 0 where it is not known. goal: a key of `utils.goals`;
    nothing where the dataset does not say.
    """
    amount = AMOUNTS.get(goal, Amount())
    passes = min(max(amount.seen_rows / max(rows, 1), amount.least_passes), amount.most_passes)
    rate = base.learning_rate if base.model == BUILT_IN else rate_for(width)
    replays = base.method != "full" and base.replay and goal not in NEVER_REPLAYED
    if replays and width in REPLAYED_WIDTHS:
        rate *= REPLAYED_RATE
    start = dataclasses.replace(
        base,
        batch_size=max(min(base.batch_size, rows), 1),
        learning_rate=float(f"{METHOD_RATES[base.method] * amount.rate * rate:.2g}"),
    )
    if goal == "faq" and rows >= MANY_FACTS and 0 < width < NARROW:
        start = _ranked(start, max(RANK_OF_MANY, start.rank))
    per_pass = math.ceil(max(rows, 1) / start.batch_size)
    trial = _timed(dataclasses.replace(start, rank=8, alpha=16.0), min(per_pass, TRIAL_UPDATES))
    usual = _timed(start, math.ceil(passes * per_pass))
    thorough = _timed(
        dataclasses.replace(_ranked(start, max(32, start.rank)), patience=5), 2 * usual.iterations
    )
    return [
        Preset(
            "trial", _("お試し"), _told(trial, per_pass, _("動くことを短時間で確かめます")), trial
        ),
        Preset("usual", _("標準"), _told(usual, per_pass, _("ふつうはこれで十分です")), usual),
        Preset(
            "thorough",
            _("じっくり"),
            _told(thorough, per_pass, _("検証の損失が下がらなくなったら早めに終わります")),
            thorough,
        ),
    ]


def _ranked(settings: TrainConfig, rank: int) -> TrainConfig:
    """With that rank; alpha keeps its proportion."""
    return dataclasses.replace(settings, rank=rank, alpha=settings.alpha * rank / settings.rank)


def _timed(settings: TrainConfig, updates: int) -> TrainConfig:
    """With everything that goes by updates in proportion."""
    return dataclasses.replace(
        settings,
        iterations=updates,
        epochs=0.0,
        warmup=min(settings.warmup, updates // 10),
        validate_every=max(min(settings.validate_every, updates // 6), 1),
        sample_every=max(min(settings.sample_every, updates // 3), 1),
    )


def _told(settings: TrainConfig, per_pass: int, aim: str) -> str:
    passes = f"{settings.iterations / per_pass:,.1f}".removesuffix(".0")  # `25`, `0.5`
    return _("{aim}。データを約{passes}周、更新{iterations:,}回、ランク{rank}。").format(
        aim=aim, passes=passes, iterations=settings.iterations, rank=settings.rank
    )
