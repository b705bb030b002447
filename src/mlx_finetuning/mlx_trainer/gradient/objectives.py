"""What a run learns by: answers token by token (`sft`), pairs of answers, or judged answers.

One object an objective, which all that encodes, lays out, sums and reports asks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches import batches
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout, BuildBatch
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.gradient import judged, loss, preference
from mlx_finetuning.mlx_trainer.gradient.judged import Judged
from mlx_finetuning.mlx_trainer.gradient.loss import LossOptions
from mlx_finetuning.mlx_trainer.gradient.preference import Pair, PairLosses
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Progress
from mlx_finetuning.tokenization.rows import Row

MARKS = ("accuracy", "margin")
"""What is summed per item beside the loss: whether the model prefers what it should, and by how much."""

Item = Example | Pair | Judged
"""What an update is made of."""
Items = Sequence[Any]
"""Those of one objective: its functions know which of the three they are."""


def _as_they_are(model: nn.Module, items: Items, *__: Any) -> Items:
    return items


@dataclass(frozen=True)
class Objective:
    """A way to learn: its loss, and what it needs."""

    name: str
    encode: Callable[[LoadedModel, Sequence[Row], TrainConfig, Sequence[Row]], Items]
    """Rows to the items that are learned. The last rows are those whose answers may stand for answers to
    something else. Raises NothingToLearn, ConversationRefused."""
    summed: Callable[[nn.Module, Any, TrainConfig, LossOptions], mx.array]
    """The loss over a batch as a scalar; where it is per item [1 + MARKS], the loss first."""
    batch_of: Callable[[BuildBatch, Items], Any] | None = None
    """Items as arrays, where they are more than examples."""
    beta: float = 0.1
    """Where the settings leave it open: TRL's, and SimPO's paper's (section 4) for it."""
    settings: tuple[str, ...] = ()
    """Those that no other objective has."""
    column: str = ""
    """What rows must have."""
    dataset_ja: str = ""
    least_batch: int = 0
    """Examples of an update, at least."""
    warning: Callable[[Items, TrainConfig], str] = lambda items, config: ""
    """In Japanese, what is to be said of the items before they are learned."""
    with_reference: Callable[[nn.Module, Items, int, BatchLayout, Progress], Items] = _as_they_are
    """The items with what the untrained model says of them; so many are computed at once."""
    with_drift: Callable[[nn.Module, Items, int, BatchLayout], Items] = _as_they_are
    """An update's items with how far the model has moved, which may be left in evaluation mode."""

    @property
    def is_per_item(self) -> bool:
        """Whether the loss is per pair or judged answer, not per target."""
        return self.batch_of is not None

    def layout(self, layout: BatchLayout) -> BatchLayout:
        """What corresponds to a layout of examples; on a GPU the others' items have sequences of their own."""
        if self.batch_of is None:
            return layout
        shared = layout if layout == batches.CONCATENATED else batches.PADDED
        return BatchLayout(partial(self.batch_of, shared.build), shared.batch_tokens)


def _encode_answers(
    loaded: LoadedModel, rows: Sequence[Row], config: TrainConfig, others: Sequence[Row]
) -> list[Example]:
    # Of judged answers only the good ones are to be imitated.
    good = [row for row in rows if row.get("label", True)]
    return encode_rows(loaded, good, config.max_length, config.supervise)


SFT = Objective(
    "sft",
    _encode_answers,
    lambda model, batch, config, options: loss.summed(model, batch, options),
    beta=0.0,
)


def _of_pairs(name: str, losses: PairLosses) -> Objective:
    return Objective(
        name,
        lambda loaded, rows, config, others: preference.encode_pairs(
            loaded, rows, config.max_length
        ),
        partial(preference.summed, losses),
        preference.batch_of,
        column="chosen",
        dataset_ja=N_("好みの比較のデータセット（prompt・chosen・rejected）"),
    )


DPO = dataclasses.replace(
    _of_pairs("dpo", preference.dpo), with_reference=preference.with_reference
)
ORPO = _of_pairs("orpo", preference.orpo)
SIMPO = dataclasses.replace(_of_pairs("simpo", preference.simpo), beta=2.0, settings=("gamma",))
KTO = Objective(
    "kto",
    lambda loaded, rows, config, others: judged.encode(loaded, rows, config.max_length, others),
    judged.summed,
    judged.batch_of,
    settings=("desirable_weight", "undesirable_weight"),
    column="label",
    dataset_ja=N_("○×の付いた答えのデータセット（prompt・completion・label）"),
    least_batch=2,
    warning=judged.imbalance,
    with_reference=judged.with_reference,
    with_drift=judged.with_drift,
)
BY_NAME = {one.name: one for one in (SFT, DPO, ORPO, SIMPO, KTO)}


def of(config: TrainConfig) -> Objective:
    """That of settled settings; of others `sft`."""
    return BY_NAME.get(config.objective, SFT)


def settled(config: TrainConfig, rows: Sequence[Row]) -> TrainConfig:
    """With what the settings leave open: the objective as the rows ask for it, and its beta. Raises
    InvalidSettings."""
    objective = objective_for(config, rows)
    if min(config.batch_size, len(rows)) < objective.least_batch:
        problem = _("batch_size: {name}では、1回の更新に{least}例以上が要ります。").format(
            name=objective.name.upper(), least=objective.least_batch
        )
        raise InvalidSettings(problems=[problem])
    beta = config.beta or objective.beta
    return dataclasses.replace(config, objective=objective.name, beta=beta)


def objective_for(config: TrainConfig, rows: Sequence[Row]) -> Objective:
    """`auto` follows the rows. Raises InvalidSettings where they are not what the objective needs."""
    columns = rows[0] if rows else {}
    if config.objective == "auto":
        return next((one for one in (DPO, KTO) if one.column in columns), SFT)
    objective = of(config)
    if objective.column and objective.column not in columns:
        what = _("{name} には、{dataset}が要ります。").format(
            name=objective.name, dataset=_(objective.dataset_ja)
        )
        raise InvalidSettings(problems=[f"objective: {what}"])
    return objective


def has_setting(config: TrainConfig, name: str) -> bool:
    """Whether a setting means something to the objective: some are another's alone."""
    owners = [one for one in BY_NAME.values() if name in one.settings]
    return not owners or of(config) in owners


def named(marks: Sequence[float], prefix: str = "") -> dict[str, float]:
    """The marks as they stand in `metrics.jsonl`; of `sft`, which has none, nothing."""
    return {prefix + name: mark for name, mark in zip(MARKS, marks, strict=False)}
