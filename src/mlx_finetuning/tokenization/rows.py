"""The form of a dataset's rows, which every stage reads, and how they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict, cast

from mlx_finetuning.errors import DatasetDamaged
from mlx_finetuning.files import JsonObject
from mlx_finetuning.tokenization.chat_template import Message


class Row(TypedDict, total=False):
    """A line of a split's file: a conversation, a text, or a preference pair."""

    messages: list[Message]
    text: str
    prompt: str
    system: str
    """Of a preference row, where it has one; a chat has it among its messages."""
    chosen: str
    """The better answer to `prompt`."""
    rejected: str
    label: bool
    """Of a conversation whose last answer is learned as a good or a bad one, which it is."""
    tools: list[JsonObject] | None
    """What the assistant may call, as JSON schemas."""
    row: int
    """Of the source file; the header is 1."""
    group: str
    """The paraphrase group that it was split by."""
    source: str
    """The file's name, where a dataset has several."""
    refusal: bool
    """Whether it asks what the data does not answer, and says so."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a split; none if the file is absent. Raises DatasetDamaged."""
    if not path.exists():
        return []
    rows: list[Row] = []
    with path.open("rb") as stream:
        for line, raw in enumerate(stream, 1):
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError) as error:
                raise DatasetDamaged(path=str(path), line=line) from error
            if not isinstance(row, dict):
                raise DatasetDamaged(path=str(path), line=line)
            rows.append(cast(Row, row))
    return rows
