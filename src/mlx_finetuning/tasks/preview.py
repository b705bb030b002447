"""What the trainer will see of a dataset: one row token by token, and figures over all rows.

Tokens, mask and cut come from `mlx_trainer.examples`, which also makes the training batches. Loads
the tokenizer only, so it needs no device and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlx_finetuning import models
from mlx_finetuning.config import TrainConfig, load
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.errors import (
    DatasetNotFound,
    NothingToLearn,
    PreviewUnsupported,
    RowNotFound,
)
from mlx_finetuning.mlx_trainer.examples import Example, encode_rows
from mlx_finetuning.mlx_trainer.load import LoadedModel
from mlx_finetuning.mlx_trainer.pieces import pieces
from mlx_finetuning.mlx_trainer.tokenizing import load_tokenizer
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks.context import TaskContext

SPLITS = ("train", "valid", "test")
STAGE = "トークンの確認"
MAX_LISTED = 1000
"""Rows named in `too_long`; `cut_rows` says how many there are."""

Rows = list[tuple[str, dict[str, Any]]]


@dataclass
class Totals:
    """Figures over all rows of all splits."""

    rows: int = 0
    tokens: int = 0
    """As trained on: what is cut does not count."""
    supervised_tokens: int = 0
    characters: int = 0
    cut_rows: int = 0
    answer_end_lost_rows: int = 0
    """Rows whose last answer has lost its end: the model learns not to stop there."""
    unused_rows: int = 0
    """Rows of which nothing supervised is left: training leaves them out."""
    longest_row: int = 0
    longest_tokens: int = 0
    tokens_per_character: float = 0.0
    supervised_share: float = 0.0
    too_long: list[dict[str, Any]] = field(default_factory=list)


def run(context: TaskContext) -> dict[str, Any]:
    """config: `dataset`, `model`, `max_length`, and `row`, a source row, or None for the first.

    Raises DatasetNotFound, RowNotFound, PreviewUnsupported, ModelError, InvalidSettings.
    """
    given = dict(context.config)
    number = given.pop("row", None)
    settings = load(TrainConfig, given)
    rows = _rows(context, settings.dataset)
    loaded = load_tokenizer(models.resolve(settings.model, context.workspace))
    limit = min(settings.max_length, loaded.context_length)
    split, row = _chosen(rows, number, settings.dataset)
    totals = _totals(context, loaded, [row for _, row in rows], limit)
    return {
        "dataset": settings.dataset,
        "model": settings.model,
        "max_length": limit,
        "row": {"split": split, **shown(loaded, row, limit)},
        "totals": asdict(totals),
    }


def _rows(context: TaskContext, dataset: str) -> Rows:
    paths = context.workspace.dataset(dataset)
    rows = [(split, row) for split in SPLITS for row in read_rows(paths.split(split))]
    if not rows:
        raise DatasetNotFound(name=dataset, available=[])
    if not {"messages", "text"} & rows[0][1].keys():
        raise PreviewUnsupported(name=dataset, kind="preference")
    return rows


def _chosen(rows: Rows, number: int | None, dataset: str) -> tuple[str, dict[str, Any]]:
    if number is None:
        return rows[0]
    for split, row in rows:
        if row.get("row") == number:
            return split, row
    known = sorted({int(row.get("row", 0)) for _, row in rows}, key=lambda at: abs(at - number))
    raise RowNotFound(name=dataset, row=number, nearest=sorted(known[:5]))


def shown(loaded: LoadedModel, row: dict[str, Any], limit: int) -> dict[str, Any]:
    """One row: its text and each token with piece, whether it is a target, whether it is cut off."""
    whole = _whole(loaded, row)
    kept, cut = min(len(whole.tokens), limit), max(len(whole.tokens) - limit, 0)
    # The first token of a sequence is never predicted.
    targets = [at > 0 and flag for at, flag in enumerate(whole.supervised)]
    named = zip(whole.tokens, pieces(loaded, whole.tokens), targets, strict=True)
    text = _text(loaded, row)
    return {
        "row": whole.row,
        "source": str(row.get("source", "")),
        "group": str(row.get("group", "")),
        "text": text,
        "tokens": [
            {"id": token, "piece": piece, "supervised": target, "cut": at >= kept}
            for at, (token, piece, target) in enumerate(named)
        ],
        "token_count": len(whole.tokens),
        "supervised_tokens": sum(targets[:kept]),
        "cut": cut,
        "answer_end_lost": any(targets[kept:]),
        "characters": len(text),
        "tokens_per_character": round(len(whole.tokens) / max(len(text), 1), 3),
    }


def _text(loaded: LoadedModel, row: dict[str, Any]) -> str:
    if "messages" not in row:
        return str(row["text"])
    return loaded.render_text(row["messages"], ask=False)


def _whole(loaded: LoadedModel, row: dict[str, Any]) -> Example:
    """The row as training encodes it, before it is cut. (A batch has its first tokens.)"""
    endless = replace(loaded, config={})
    try:
        return encode_rows(endless, [row], endless.context_length)[0]
    except NothingToLearn:
        return Example([], [], int(row.get("row", 0)))


def _totals(
    context: TaskContext, loaded: LoadedModel, rows: Sequence[dict[str, Any]], limit: int
) -> Totals:
    totals = Totals(rows=len(rows))
    for row, whole in _encoded(context, loaded, rows):
        targets = sum(whole.supervised[1:limit])
        totals.tokens += min(len(whole.tokens), limit)
        totals.supervised_tokens += targets
        totals.characters += _characters(row)
        totals.unused_rows += not targets
        if len(whole.tokens) > totals.longest_tokens:
            totals.longest_row, totals.longest_tokens = whole.row, len(whole.tokens)
        if len(whole.tokens) > limit:
            _count_cut(totals, whole, limit, str(row.get("source", "")))
    totals.supervised_share = round(totals.supervised_tokens / max(totals.tokens, 1), 4)
    totals.tokens_per_character = round(totals.tokens / max(totals.characters, 1), 3)
    return totals


def _encoded(
    context: TaskContext, loaded: LoadedModel, rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Example]]:
    for number, row in enumerate(rows):
        context.progress(Step(STAGE, number, len(rows)))
        yield row, _whole(loaded, row)
    context.progress(Step(STAGE, len(rows), len(rows)))


def _characters(row: dict[str, Any]) -> int:
    if "messages" not in row:
        return len(row["text"])
    return sum(len(turn["content"]) for turn in row["messages"])


def _count_cut(totals: Totals, whole: Example, limit: int, source: str) -> None:
    lost = any(whole.supervised[limit:])
    totals.cut_rows += 1
    totals.answer_end_lost_rows += lost
    if len(totals.too_long) < MAX_LISTED:
        totals.too_long.append(
            {
                "row": whole.row,
                "source": source,
                "tokens": len(whole.tokens),
                "cut": len(whole.tokens) - limit,
                "answer_end_lost": lost,
            }
        )
