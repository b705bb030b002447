"""Where a trained model will be usable, found before it is trained: MLX, embedded runtime, Ollama."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlx_finetuning.errors import QuantizerUnusable, RuntimeNotStarted
from mlx_finetuning.messages_ja import describe
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.quantizer.verify.reach import Reach, reach
from mlx_finetuning.tasks import template_reading
from mlx_finetuning.tasks.reference import chat_format
from mlx_finetuning.tokenization import gate

MOST_ROWS = 20_000
"""Rows that are looked at, evenly taken from more."""
TALK = (
    {"role": "user", "content": "こんにちは"},
    {"role": "assistant", "content": "はい"},
    {"role": "user", "content": "質問です"},
)
SYSTEM = {"role": "system", "content": "日本語で答えてください"}


def said_of(
    folder: Path, loaded: LoadedModel, rows: Sequence[dict[str, Any]], tiny: Path
) -> tuple[list[str], list[str]]:
    """The places where the model will be usable, and what a user should know of them before training,
    both in Japanese. tiny: the built-in model's folder, on which the template is tried."""
    template = loaded.chat.template
    try:
        if template and not template_reading.is_readable(template.text, tiny):
            return ["MLX"], [template_reading.UNREADABLE]
        found = found_for(folder, loaded, rows)
    except (QuantizerUnusable, RuntimeNotStarted) as error:
        return ["MLX"], [describe(error).what]
    return list(found.ends), [*found.reasons, *found.warnings]


def found_for(folder: Path, loaded: LoadedModel, rows: Sequence[dict[str, Any]]) -> Reach:
    """For the model in `folder` and a dataset's rows. Raises QuantizerUnusable."""
    chat = loaded.chat
    return reach(
        folder,
        _by_number(rows),
        _prompts(loaded),
        encode=lambda text, added: list(chat.tokenizer.encode(text, add_special_tokens=added)),
        chat=chat_format(loaded),
    )


def _by_number(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The texts of each line of the source, so that what is named are its lines."""
    taken = rows[:: max(1, len(rows) // MOST_ROWS)]
    last = max((int(row.get("row", 0)) for row in taken), default=0)
    texts: list[list[str]] = [[] for _ in range(last)]
    for row in taken:
        number = int(row.get("row", 0))
        if 0 < number <= last:
            texts[number - 1] += gate.texts_of(row)
    return texts


def _prompts(loaded: LoadedModel) -> list[str]:
    """Conversations in plain words: what is odd in them is the template's."""
    template = loaded.chat.template
    if template is None:
        return []
    talks: list[list[dict[str, Any]]] = [[dict(TALK[0])], [dict(turn) for turn in TALK]]
    if template.takes_system:
        talks.append([dict(SYSTEM), dict(TALK[0])])
    return [loaded.render_text(talk, ask=True) for talk in talks]
