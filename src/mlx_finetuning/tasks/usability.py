"""Where a trained model will be usable, found before it is trained: MLX, embedded runtime, Ollama."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_finetuning.errors import QuantizerUnusable, RuntimeNotStarted
from mlx_finetuning.language import _
from mlx_finetuning.messages import describe
from mlx_finetuning.mlx_trainer.model.load import LoadedModel
from mlx_finetuning.quantizer.verify.parity import Tokenize
from mlx_finetuning.quantizer.verify.reach import reach
from mlx_finetuning.quantizer.vocabulary.tokenizer import ChatFormat
from mlx_finetuning.tasks import template_reading
from mlx_finetuning.tokenization import gate
from mlx_finetuning.tokenization.rows import Row

MOST_ROWS = 20_000
"""Rows that are looked at, evenly taken from more."""
KEPT_TEXTS = 4096
"""Of which tokens are kept: the battery's and some of the user's, with and without bos and eos."""
CONVERSATION = (
    {"role": "user", "content": "こんにちは"},
    {"role": "assistant", "content": "はい"},
    {"role": "user", "content": "質問です"},
)
"""In plain words: what is odd in the prompts made of it is the template's."""
SYSTEM = {"role": "system", "content": "日本語で答えてください"}


@dataclass(frozen=True)
class Usability:
    """For people, before anything is trained."""

    engines_ja: tuple[str, ...]
    """Where the model will be usable."""
    warnings_ja: tuple[str, ...]
    """What a user should know of the others, and of single rows."""


def usability_of(folder: Path, loaded: LoadedModel, rows: Sequence[Row], tiny: Path) -> Usability:
    """For the model in `folder` and a dataset's rows.

    tiny: the built-in model's folder, on which the template is tried.
    """
    template = loaded.chat.template
    prompts = []
    try:
        if template:
            if not template_reading.is_readable(template.text, tiny):
                return Usability(("MLX",), (_(template_reading.UNREADABLE),))
            chats = [[dict(CONVERSATION[0])], [dict(turn) for turn in CONVERSATION]]
            if template.takes_system:
                chats.append([dict(SYSTEM), dict(CONVERSATION[0])])
            prompts = [loaded.render_text(chat, ask=True) for chat in chats]
        reached = reach(
            folder,
            _texts_by_line(rows),
            prompts,
            encode=encode_with(loaded),
            chat=chat_format(loaded),
        )
    except (QuantizerUnusable, RuntimeNotStarted) as error:
        return Usability(("MLX",), (describe(error).what,))
    return Usability(tuple(reached.ends), (*reached.reasons, *reached.warnings))


def encode_with(loaded: LoadedModel) -> Tokenize:
    """The tokens that the run was trained with, of any text."""

    # Each file of an export is compared on the same texts.
    @functools.lru_cache(KEPT_TEXTS)
    def tokens(text: str, add_special: bool) -> tuple[int, ...]:
        return tuple(loaded.tokenizer.encode(text, add_special_tokens=add_special))

    return lambda text, add_special: list(tokens(text, add_special))


def chat_format(loaded: LoadedModel) -> ChatFormat | None:
    """How the model converses, for a file; None for one without a chat template."""
    template = loaded.chat.template
    return ChatFormat(template.text, loaded.chat.end_ids[0]) if template else None


def _texts_by_line(rows: Sequence[Row]) -> list[list[str]]:
    """The texts of each line of the source, so that what is named are its lines."""
    sample = rows[:: max(1, len(rows) // MOST_ROWS)]
    last = max((int(row.get("row", 0)) for row in sample), default=0)
    texts: list[list[str]] = [[] for __ in range(last)]
    for row in sample:
        number = int(row.get("row", 0))
        if 0 < number <= last:
            texts[number - 1] += gate.texts_of(row)
    return texts
