"""What the trainer will see of a dataset: one row token by token, and figures over all rows. A
preference row has two such sequences, and counts with both. Plain text is never cut, but divided.

Tokens, mask and cut come from `mlx_trainer.batches.examples`, which also makes the training batches. Loads
the tokenizer only, so it needs no device and waits for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlx_finetuning import models
from mlx_finetuning.config import TrainConfig, load
from mlx_finetuning.data_processor import read_rows
from mlx_finetuning.errors import DatasetNotFound, RowNotFound
from mlx_finetuning.mlx_trainer.batches.examples import Example, conversations, pair, sequences
from mlx_finetuning.mlx_trainer.batches.token_text import token_texts
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.mlx_trainer.model.tokenizer import load_tokenizer
from mlx_finetuning.progress import Step
from mlx_finetuning.tasks import ends
from mlx_finetuning.tasks.context import TaskContext
from mlx_finetuning.tokenization import gate, reasoning
from mlx_finetuning.tokenization.reasoning import FIELDS

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
    """config: `dataset`, `model`, `max_length`, `supervise`, and `row`, a source row, or None for
    the first. The result's `rejected` is the second answer of a preference row, else None; `more` holds
    the further sequences of a conversation whose answers are learned apart;
    `thinks` says whether answers are learned with their reasoning; `tools_ignored` says that the row has
    tools, and the model's template no place for them; `warnings` says in Japanese where the model will
    not be usable, or not for all rows, once it is trained.

    Raises DatasetNotFound, RowNotFound, ModelError, InvalidSettings.
    """
    given = dict(context.config)
    number = given.pop("row", None)
    settings = load(TrainConfig, given)
    rows = _rows(context, settings.dataset)
    folder = models.resolve(settings.model, context.workspace)
    thinks = reasoning.occurs_in([row for split, row in rows if split == "train"])
    loaded = load_tokenizer(folder, thinks=thinks)
    texts = gate.row_texts([row for _, row in rows])
    gate.require_own_tokens(folder, loaded.chat.encode, texts)
    limit = min(settings.max_length, loaded.context_length)
    split, row = _chosen(rows, number, settings.dataset)
    totals = _totals(context, loaded, [row for _, row in rows], limit, settings.supervise)
    tiny = models.resolve(models.BUILT_IN, context.workspace)
    places, warnings = ends.said_of(folder, loaded, [one for _, one in rows], tiny)
    first, *others = shown(loaded, row, limit, settings.supervise)
    return {
        "dataset": settings.dataset,
        "model": settings.model,
        "max_length": limit,
        "supervise": settings.supervise,
        "thinks": thinks,
        "row": {"split": split, **first},
        "rejected": others[0] if others and "chosen" in row else None,
        "more": [] if "chosen" in row else others,
        "tools_ignored": _ignores_tools(loaded, row),
        "ends": places,
        "warnings": warnings,
        "totals": asdict(totals),
    }


def _rows(context: TaskContext, dataset: str) -> Rows:
    paths = context.workspace.dataset(dataset)
    rows = [(split, row) for split in SPLITS for row in read_rows(paths.split(split))]
    if not rows:
        raise DatasetNotFound(name=dataset, available=[])
    return rows


def _chosen(rows: Rows, number: int | None, dataset: str) -> tuple[str, dict[str, Any]]:
    if number is None:
        return rows[0]
    for split, row in rows:
        if row.get("row") == number:
            return split, row
    known = sorted({int(row.get("row", 0)) for _, row in rows}, key=lambda at: abs(at - number))
    raise RowNotFound(name=dataset, row=number, nearest=sorted(known[:5]))


def shown(
    loaded: LoadedModel, row: dict[str, Any], limit: int, supervise: str = "answers"
) -> list[dict[str, Any]]:
    """Each sequence of one row: its text and each token with piece, whether it is a target,
    whether it is cut off."""
    pairs = zip(_sequences(loaded, row, supervise), _texts(loaded, row), strict=True)
    return [_sequence(loaded, row, whole, text, limit) for whole, text in pairs]


def _sequence(
    loaded: LoadedModel, row: dict[str, Any], whole: Example, text: str, limit: int
) -> dict[str, Any]:
    limit = len(whole.tokens) if "text" in row else limit
    kept, cut = min(len(whole.tokens), limit), max(len(whole.tokens) - limit, 0)
    # The first token of a sequence is never predicted.
    targets = [at > 0 and flag for at, flag in enumerate(whole.supervised)]
    named = zip(whole.tokens, token_texts(loaded, whole.tokens), targets, strict=True)
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


def _sequences(loaded: LoadedModel, row: dict[str, Any], supervise: str) -> tuple[Example, ...]:
    return pair(loaded, row) if "chosen" in row else sequences(loaded, row, supervise)


def _texts(loaded: LoadedModel, row: dict[str, Any]) -> list[str]:
    if "text" in row:
        return [str(row["text"])]
    tools = row.get("tools")
    found = [loaded.chat.sequences(chat, tools) for chat in conversations(row)]
    return [one.text for chat in found for one in chat] or [
        loaded.render_text(chat, ask=False, tools=tools) for chat in conversations(row)
    ]


def _ignores_tools(loaded: LoadedModel, row: dict[str, Any]) -> bool:
    if not row.get("tools"):
        return False
    return _texts(loaded, row) == _texts(loaded, {**row, "tools": None})


def _totals(
    context: TaskContext,
    loaded: LoadedModel,
    rows: Sequence[dict[str, Any]],
    limit: int,
    supervise: str,
) -> Totals:
    totals = Totals(rows=len(rows))
    for number, row in enumerate(rows):
        context.progress(Step(STAGE, number, len(rows)))
        _count(totals, row, _sequences(loaded, row, supervise), limit)
    context.progress(Step(STAGE, len(rows), len(rows)))
    totals.supervised_share = round(totals.supervised_tokens / max(totals.tokens, 1), 4)
    totals.tokens_per_character = round(totals.tokens / max(totals.characters, 1), 3)
    return totals


def _count(totals: Totals, row: dict[str, Any], wholes: Sequence[Example], limit: int) -> None:
    limit = max(len(whole.tokens) for whole in wholes) if "text" in row else limit
    targets = [sum(whole.supervised[1:limit]) for whole in wholes]
    totals.tokens += sum(min(len(whole.tokens), limit) for whole in wholes)
    totals.supervised_tokens += sum(targets)
    totals.characters += _characters(row)
    totals.unused_rows += not (all(targets) if "chosen" in row else any(targets))
    longest = max(len(whole.tokens) for whole in wholes)
    if longest > totals.longest_tokens:
        totals.longest_row, totals.longest_tokens = wholes[0].row, longest
    if longest > limit:
        lost = any(any(whole.supervised[limit:]) for whole in wholes)
        _count_cut(totals, row, longest, limit, lost)


def _characters(row: dict[str, Any]) -> int:
    if "text" in row:
        return len(row["text"])
    turns = (turn for chat in conversations(row) for turn in chat)
    return sum(len(turn["content"]) + len(turn.get(FIELDS[0]) or "") for turn in turns)


def _count_cut(totals: Totals, row: dict[str, Any], tokens: int, limit: int, lost: bool) -> None:
    totals.cut_rows += 1
    totals.answer_end_lost_rows += lost
    if len(totals.too_long) < MAX_LISTED:
        totals.too_long.append(
            {
                "row": int(row.get("row", 0)),
                "source": str(row.get("source", "")),
                "tokens": tokens,
                "cut": tokens - limit,
                "answer_end_lost": lost,
            }
        )
