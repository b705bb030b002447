"""What a model makes of rows: the loss of every row, and greedy answers to its last question.

Measures one model; comparing and judging is done by `experiment_tracker`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from mlx_finetuning.config import EvaluateConfig, TrainConfig
from mlx_finetuning.errors import NothingToLearn
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches.batches import BatchLayout
from mlx_finetuning.mlx_trainer.batches.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.gradient import loss
from mlx_finetuning.mlx_trainer.inference import batch_generate, beginning
from mlx_finetuning.mlx_trainer.inference.beginning import Beginning
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.parallel import workload
from mlx_finetuning.progress import Progress, Step
from mlx_finetuning.tokenization.rows import Row

READING, LOSSES, ANSWERS = N_("：共通の部分の読み込み"), N_("：損失"), N_("：答え")
"""How the stages end in which a common beginning is read, losses are taken, and questions are asked."""


@dataclass(frozen=True)
class Grade:
    """One row as one model knows it."""

    nats: float
    """Summed over the row's targets."""
    targets: int
    """Supervised tokens; 0 where the row has none that fit."""
    answer: str | None = None
    """Without reasoning; None where nothing was asked."""
    ended: bool = False
    """Whether the model ended its answer by itself."""
    reasoning: str = ""
    """What it thought before its answer."""


def batch_layout(loaded: LoadedModel) -> BatchLayout:
    """How examples share a sequence on this device, found by trying."""
    return workload.batch_layout(loaded.model, len(loaded.tokenizer.vocab), TrainConfig())


def grade(
    loaded: LoadedModel,
    rows: Sequence[Row],
    config: EvaluateConfig,
    progress: Progress,
    stage: str,
    *,
    layout: BatchLayout,
    ask: bool,
    begin_alike: bool = False,
) -> list[Grade]:
    """A grade per row; with `ask`, the questions that fit the context are answered greedily.

    layout: of `batch_layout`; begin_alike: the rows are known to share a long beginning, which is read
    once where the model can.
    """

    def told(kind: str, of: int | None = None) -> Callable[..., None]:
        return lambda count, total=of: progress(Step(stage + _(kind), count, total))

    parts = _encoded(loaded, rows)
    asked = [at for at, row in enumerate(rows) if ask and is_question(row)]
    prompts = {at: prompt(loaded, rows[at]) for at in asked}
    fitting = {at: ids for at, ids in prompts.items() if len(ids) < loaded.context_length}
    shared = None
    if begin_alike:
        before = [*map(beginning.before_targets, parts), *(ids[:-1] for ids in fitting.values())]
        shared = beginning.read(loaded.model, before, layout, told(READING))
    grades = _losses(loaded, len(rows), parts, layout, told(LOSSES, len(rows)), shared)
    given = batch_generate.answers(
        loaded,
        list(fitting.values()),
        config.max_tokens,
        config.batch_size,
        told(ANSWERS, len(fitting)),
        shared,
    )
    for at, answer in zip(fitting, given, strict=True):
        grades[at] = replace(
            grades[at], answer=answer.text, ended=answer.ended, reasoning=answer.reasoning
        )
    return grades


def _encoded(loaded: LoadedModel, rows: Sequence[Row]) -> list[Example]:
    """The examples of all rows, by the rows' places; of some nothing fits."""
    parts: list[Example] = []
    for at, row in enumerate(rows):
        with contextlib.suppress(NothingToLearn):
            encoded = encode_rows(loaded, [row], loaded.context_length)
            parts += [replace(part, row=at) for part in encoded]
    return parts


def _losses(
    loaded: LoadedModel,
    rows: int,
    parts: Sequence[Example],
    layout: BatchLayout,
    measured: Callable[[int], None],
    shared: Beginning | None,
) -> list[Grade]:
    nats, targets, done = [0.0] * rows, [0] * rows, 0
    # Without shared sequences, each is computed alone: padding would save little.
    shares = parts and layout.shares_sequence and shared is None
    for group in layout.grouped(parts) if shares else [[one] for one in parts]:
        measured(done * rows // len(parts))
        if shared is None:
            each = cast(list[float], loss.each(loaded.model, layout.build(group)).tolist())
        else:
            each = beginning.losses(loaded.model, group[0], shared)
        values = iter(each)
        for part in group:
            nats[part.row] += sum(itertools.islice(values, part.targets))
            targets[part.row] += part.targets
        done += len(group)
    return [Grade(*figures) for figures in zip(nats, targets, strict=True)]


def is_question(row: Mapping[str, Any]) -> bool:
    """Whether the row's conversation ends with an answer to something."""
    messages = row.get("messages") or []
    return len(messages) > 1 and messages[-1]["role"] == "assistant"


def prompt(loaded: LoadedModel, row: Mapping[str, Any]) -> list[int]:
    """Token ids of the row's conversation up to its last answer."""
    return loaded.render(row["messages"][:-1], ask=True, tools=row.get("tools"))
