"""The form of a dataset's rows, which every stage reads."""

from __future__ import annotations

from typing import TypedDict

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
    tools: list[JsonObject] | None
    """What the assistant may call, as JSON schemas."""
    row: int
    """Of the source file; the header is 1."""
    group: str
    """The paraphrase group that it was split by."""
    source: str
    """The file's name, where a dataset has several."""
