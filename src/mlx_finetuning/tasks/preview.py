"""What the trainer will see of a dataset: one row token by token, and figures over all rows. A
preference row has two such sequences, and counts with both. Plain text is never cut, but divided.

Tokens, mask and cut come from `mlx_trainer.batches.examples`, which also makes the training batches. Loads
the tokenizer only, so it needs no device and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlx_finetuning import bases, models
from mlx_finetuning.config import TrainConfig, load
from mlx_finetuning.errors import DatasetNotFound, RowNotFound
from mlx_finetuning.jobs.context import TaskContext
from mlx_finetuning.jobs.preview import (
    LongRow,
    Preview,
    PreviewRow,
    PreviewSequence,
    PreviewToken,
    Totals,
)
from mlx_finetuning.language import N_, _
from mlx_finetuning.mlx_trainer.batches import row_warnings
from mlx_finetuning.mlx_trainer.batches.examples import Example, conversations, pair, sequences
from mlx_finetuning.mlx_trainer.batches.token_text import token_texts
from mlx_finetuning.mlx_trainer.gradient import judged
from mlx_finetuning.mlx_trainer.model.load import LoadedModel, load_tokenizer
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks import usability
from mlx_finetuning.tokenization import gate, reasoning
from mlx_finetuning.tokenization.reasoning import FIELDS
from mlx_finetuning.tokenization.rows import Row, read_rows

SPLITS = ("train", "valid", "test")
STAGE = N_("トークンの確認")
MAX_LISTED = 1000
"""Rows named in `too_long`; `cut_rows` says how many there are."""

RowsOfSplits = list[tuple[str, Row]]


def run(context: TaskContext) -> Preview:
    """config: `dataset`, `model`, `max_length`, `supervise`, and `row`, a source row, or None for
    the first.

    Raises DatasetNotFound, RowNotFound, ModelError, InvalidSettings.
    """
    values = dict(context.config)
    number = values.pop("row", None)
    settings = load(TrainConfig, values)
    dataset = context.workspace.dataset(settings.dataset)
    rows = [(split, row) for split in SPLITS for row in read_rows(dataset.split(split))]
    if not rows:
        raise DatasetNotFound(name=settings.dataset, available=[])
    all_rows = [row for __, row in rows]
    folder = bases.resolve(settings.model, context.workspace)
    thinks = reasoning.occurs_in([row for split, row in rows if split == "train"])
    loaded = load_tokenizer(folder, thinks=thinks)
    gate.require_own_tokens(folder, loaded.chat.encode, gate.row_texts(all_rows))
    limit = min(settings.max_length, loaded.context_length)
    split, row = _choose(rows, number, settings.dataset)
    totals = _count(context, loaded, all_rows, limit, settings.supervise)
    tiny = models.resolve(models.BUILT_IN, context.workspace)
    usable = usability.usability_of(folder, loaded, all_rows, tiny)
    first, *others = shown(loaded, row, limit, settings.supervise)
    is_preference = "chosen" in row
    ignores_tools = bool(row.get("tools")) and (
        _texts(loaded, row) == _texts(loaded, {**row, "tools": None})
    )
    return Preview(
        dataset=settings.dataset,
        model=settings.model,
        max_length=limit,
        supervise=settings.supervise,
        thinks=thinks,
        row=PreviewRow(**vars(first), split=split),
        rejected=others[0] if others and is_preference else None,
        more=() if is_preference else tuple(others),
        label=row.get("label"),
        tools_ignored=ignores_tools,
        ends=usable.engines_ja,
        warnings=(*usable.warnings_ja, *row_warnings.of_texts(loaded, all_rows)),
        totals=totals,
    )


def _choose(rows: RowsOfSplits, number: int | None, dataset: str) -> tuple[str, Row]:
    """The first row, or the one of a line of the source. Raises RowNotFound."""
    if number is None:
        return rows[0]
    for split, row in rows:
        if row.get("row") == number:
            return split, row
    numbers = {int(row.get("row", 0)) for __, row in rows}
    nearest = sorted(sorted(numbers), key=lambda other: abs(other - number))[:5]
    raise RowNotFound(name=dataset, row=number, nearest=sorted(nearest))


def shown(
    loaded: LoadedModel, row: Row, limit: int, supervise: str = "answers"
) -> list[PreviewSequence]:
    """Each sequence of one row."""
    listed = []
    for whole, text in zip(_sequences(loaded, row, supervise), _texts(loaded, row), strict=True):
        length = len(whole.tokens)
        # Plain text is never cut.
        trained_length = length if "text" in row else min(length, limit)
        # The first token of a sequence is never predicted.
        targets = [at > 0 and flag for at, flag in enumerate(whole.supervised)]
        named = zip(whole.tokens, token_texts(loaded, whole.tokens), targets, strict=True)
        listed.append(
            PreviewSequence(
                row=whole.row,
                source=str(row.get("source", "")),
                group=str(row.get("group", "")),
                text=text,
                tokens=tuple(
                    PreviewToken(token, text_of_token, target, cut=at >= trained_length)
                    for at, (token, text_of_token, target) in enumerate(named)
                ),
                token_count=length,
                supervised_tokens=sum(targets[:trained_length]),
                cut=length - trained_length,
                answer_end_lost=any(targets[trained_length:]),
                characters=len(text),
                tokens_per_character=round(length / max(len(text), 1), 3),
            )
        )
    return listed


def _sequences(loaded: LoadedModel, row: Row, supervise: str) -> tuple[Example, ...]:
    if "label" in row:  # of a judged row the last answer alone
        return (judged.last_answer(loaded, row, row),)
    return pair(loaded, row) if "chosen" in row else sequences(loaded, row, supervise)


def _texts(loaded: LoadedModel, row: Row) -> list[str]:
    if "text" in row:
        return [str(row["text"])]
    tools = row.get("tools")
    chats = conversations(row)
    encoded = [one.text for chat in chats for one in loaded.chat.sequences(chat, tools)]
    if encoded:
        return encoded[-1:] if "label" in row else encoded
    return [loaded.render_text(chat, ask=False, tools=tools) for chat in chats]


def _count(
    context: TaskContext,
    loaded: LoadedModel,
    rows: Sequence[Row],
    max_length: int,
    supervise: str,
) -> Totals:
    totals = Totals(rows=len(rows))
    for number, row in enumerate(rows):
        context.progress(Step(_(STAGE), number, len(rows)))
        wholes = _sequences(loaded, row, supervise)
        longest = max(len(whole.tokens) for whole in wholes)
        limit = longest if "text" in row else max_length
        targets = [sum(whole.supervised[1:limit]) for whole in wholes]
        totals.tokens += sum(min(len(whole.tokens), limit) for whole in wholes)
        totals.supervised_tokens += sum(targets)
        if "text" in row:
            totals.characters += len(row["text"])
        else:
            turns = (turn for chat in conversations(row) for turn in chat)
            totals.characters += sum(
                len(turn["content"]) + len(turn.get(FIELDS[0]) or "") for turn in turns
            )
        totals.unused_rows += not (all(targets) if "chosen" in row else any(targets))
        if longest > totals.longest_tokens:
            totals.longest_row, totals.longest_tokens = wholes[0].row, longest
        if longest <= limit:
            continue
        answer_end_lost = any(any(whole.supervised[limit:]) for whole in wholes)
        totals.cut_rows += 1
        totals.answer_end_lost_rows += answer_end_lost
        if len(totals.too_long) < MAX_LISTED:
            totals.too_long.append(
                LongRow(
                    row=int(row.get("row", 0)),
                    source=str(row.get("source", "")),
                    tokens=longest,
                    cut=longest - limit,
                    answer_end_lost=answer_end_lost,
                )
            )
    context.progress(Step(_(STAGE), len(rows), len(rows)))
    totals.supervised_share = round(totals.supervised_tokens / max(totals.tokens, 1), 4)
    totals.tokens_per_character = round(totals.tokens / max(totals.characters, 1), 3)
    return totals
