"""What a run learns by: answers token by token (`sft`), pairs of answers, or judged answers.

One place that tells the objectives apart for all that encodes, lays out, sums and reports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import InvalidSettings
from mlx_finetuning.mlx_trainer.batches.batches import RowLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.gradient import judged, loss, preference
from mlx_finetuning.mlx_trainer.gradient.judged import KTO, Judged
from mlx_finetuning.mlx_trainer.gradient.preference import Pair
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.progress import Progress
from mlx_finetuning.tokenization.rows import Row

PER_ROW = (*preference.KINDS, KTO)
"""Objectives whose loss is per row, and whose sums have marks: all but `sft`."""
MARKS = ("accuracy", "margin")
"""What is summed per row beside the loss: whether the model prefers what it should, and by how much."""
BETAS = {"dpo": 0.1, "orpo": 0.1, KTO: 0.1, "simpo": 2.0}
"""Where the settings leave it open: TRL's for the first three, SimPO's paper's (section 4) for it."""
OF_ONE = {"gamma": ("simpo",), "desirable_weight": (KTO,), "undesirable_weight": (KTO,)}
"""Settings that only these objectives have."""

Item = Example | Pair | Judged
"""What an update is made of."""


def settled(config: TrainConfig, rows: Sequence[Row]) -> TrainConfig:
    """With what the settings leave open: the objective as the rows ask for it, and its beta. Raises
    InvalidSettings."""
    name = objective_for(config, rows)
    beta = config.beta or BETAS.get(name, 0.0)
    if name == KTO and min(config.batch_size, len(rows)) < 2:
        problem = "batch_size: KTOでは、1回の更新に2例以上が要ります。"
        raise InvalidSettings(problems=[problem])
    return dataclasses.replace(config, objective=name, beta=beta)


def objective_for(config: TrainConfig, rows: Sequence[Row]) -> str:
    """`auto` follows the rows. Raises InvalidSettings where they are not what the objective needs."""
    compares = bool(rows) and "chosen" in rows[0]
    judges = bool(rows) and "label" in rows[0]
    if config.objective == "auto":
        return "dpo" if compares else KTO if judges else "sft"
    needed = {KTO: (judges, "○×の付いた答えのデータセット（prompt・completion・label）")}
    pairs = (compares, "好みの比較のデータセット（prompt・chosen・rejected）")
    needed |= dict.fromkeys(preference.KINDS, pairs)
    is_there, what = needed.get(config.objective, (True, ""))
    if not is_there:
        raise InvalidSettings(problems=[f"objective: {config.objective} には、{what}が要ります。"])
    return config.objective


def encode(
    loaded: LoadedModel, rows: Sequence[Row], config: TrainConfig, others: Sequence[Row]
) -> Sequence[Item]:
    """The rows as what `config.objective`, which is settled, learns of them; others: rows whose answers
    may stand for answers to something else. Raises NothingToLearn, ConversationRefused."""
    if config.objective in preference.KINDS:
        return preference.encode_pairs(loaded, rows, config.max_length)
    if config.objective == KTO:
        return judged.encode(loaded, rows, config.max_length, others)
    # Of judged answers only the good ones are to be imitated.
    good = [row for row in rows if row.get("label", True)]
    return encode_rows(loaded, good, config.max_length, config.supervise)


def warnings(items: Sequence[Item], config: TrainConfig) -> list[str]:
    """In Japanese, what is to be said of the rows before they are learned."""
    if config.objective != KTO:
        return []
    text = judged.imbalance(cast(Sequence[Judged], items), config)
    return [text] if text else []


def layout_for(config: TrainConfig, layout: RowLayout) -> RowLayout:
    """`layout`, or what corresponds to it for pairs and judged answers."""
    if config.objective in preference.KINDS:
        return preference.PAIR_LAYOUTS.get(layout, preference.PAIRS_PADDED)
    if config.objective == KTO:
        return judged.LAYOUTS.get(layout, judged.PADDED)
    return layout


def summed(
    model: nn.Module, batch: Any, config: TrainConfig, options: loss.LossOptions = loss.PLAIN
) -> mx.array:
    """The loss over a batch as a scalar; of `PER_ROW` [1 + MARKS], the loss first."""
    if config.objective in preference.KINDS:
        return preference.summed(model, batch, config, options)
    if config.objective == KTO:
        return judged.summed(model, batch, config, options)
    return loss.summed(model, batch, options)


def gradient_of(
    model: nn.Module, config: TrainConfig, options: loss.LossOptions
) -> Callable[[Any], tuple[mx.array, Any]]:
    """`summed` of `PER_ROW`, with the gradients of the loss."""

    def value(batch: Any) -> tuple[mx.array, mx.array]:
        sums = summed(model, batch, config, options)
        return sums[0], sums

    gradient = nn.value_and_grad(model, value)

    def of(batch: Any) -> tuple[mx.array, Any]:
        (_, sums), gradients = gradient(batch)
        return sums, gradients

    return of


def with_reference(
    model: nn.Module,
    items: Sequence[Item],
    config: TrainConfig,
    layout: RowLayout,
    progress: Progress,
) -> Sequence[Item]:
    """The items with what the untrained model says of them, where the objective asks for it."""
    if config.objective == "dpo":
        pairs = cast(Sequence[Pair], items)
        return preference.with_reference(model, pairs, config.batch_size, layout, progress)
    if config.objective == KTO:
        answers = cast(Sequence[Judged], items)
        return judged.with_reference(model, answers, config.batch_size, layout, progress)
    return items


def named(marks: Sequence[float], prefix: str = "") -> dict[str, float]:
    """The marks as they stand in `metrics.jsonl`; of `sft`, which has none, nothing."""
    return {prefix + name: mark for name, mark in zip(MARKS, marks, strict=False)}
