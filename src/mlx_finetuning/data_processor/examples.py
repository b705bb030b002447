"""Records to examples: turns of text with their source row, category and group. Splits nothing,
drops nothing in silence: a record of which no example can be made becomes a finding."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.columns import ColumnMap
from mlx_finetuning.data_processor.readers.tables import Table, cell_text
from mlx_finetuning.data_processor.stage_progress import SILENT, StageProgress
from mlx_finetuning.tokenization.reasoning import FIELDS, TAG

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


class Turn(NamedTuple):
    """What one side says."""

    role: str
    """A chat role; for other kinds `text`, `prompt`, `chosen` or `rejected`."""
    content: str
    extra: tuple[tuple[str, Any], ...] = ()
    """Further keys of a message (`tool_calls`, `name`), written back as they came."""
    reasoning: str = ""
    """What the assistant thinks before it says `content`."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is written for people to read."""
        return (self.content, self.reasoning) if self.reasoning else (self.content,)

    def to_message(self) -> dict[str, object]:
        """As chat templates take it."""
        message: dict[str, object] = {"role": self.role, "content": self.content}
        if self.reasoning:
            message[FIELDS[0]] = self.reasoning
        message.update(self.extra)
        return message

    def changed(self, change: Callable[[str], str]) -> Turn:
        """With `change` applied to all its texts."""
        thought = change(self.reasoning) if self.reasoning else ""
        return self._replace(content=change(self.content), reasoning=thought)


@dataclass(frozen=True, slots=True)
class Example:
    """What is learned from one record."""

    row: int
    """Of the source file; the header is 1."""
    turns: tuple[Turn, ...]
    category: str = ""
    group: str = ""
    source: str = ""
    """The file's name, where a dataset has several."""
    tools: tuple[Any, ...] = ()
    """What the assistant may call, as JSON schemas; handed to the chat template."""

    def to_row(self, group: str) -> dict[str, object]:
        """The row of a split's file."""
        if self.turns[0].role in ("text", "prompt"):
            fields: dict[str, object] = {turn.role: turn.content for turn in self.turns}
        else:
            fields = {"messages": [turn.to_message() for turn in self.turns]}
        if self.tools:
            fields["tools"] = list(self.tools)
        origin = {"source": self.source} if self.source else {}
        return {**fields, "row": self.row, "group": group, **origin}


def findings_at(code: str, examples: Iterable[Example], **details: Any) -> list[Finding]:
    """One finding per source file in which the examples stand; none without examples."""
    rows: defaultdict[str, set[int]] = defaultdict(set)
    for example in examples:
        rows[example.source].add(example.row)
    return [
        replace(finding(code, sorted(numbers), **details), source=source)
        for source, numbers in sorted(rows.items())
    ]


def build(
    table: Table,
    columns: ColumnMap,
    system: str,
    source: str = "",
    progress: StageProgress = SILENT,
) -> tuple[list[Example], list[Finding]]:
    """An example per record that can be one. `columns.kind` is set; `system` goes first in chats
    that bring no system turn of their own."""
    builder = _Builder(table.columns, columns, system)
    examples, unusable = [], []
    for row, values in progress.over(table.records):
        turns, tools = builder.turns(values), builder.tools(values)
        if turns is None or tools is None:
            unusable.append(Example(row, (), source=source))
        else:
            category = builder.text(values, "category").strip()
            group = builder.text(values, "group").strip()
            examples.append(Example(row, turns, category, group, source, tools))
    return examples, findings_at("BAD_CHAT", unusable)


class _Builder:
    """Makes turns of a record's values, by the positions of the mapped columns."""

    def __init__(self, names: Sequence[str], columns: ColumnMap, system: str) -> None:
        self._positions = {role: names.index(name) for role, name in columns.columns.items()}
        self._kind = columns.kind
        self._system = system

    def text(self, values: Sequence[Any], role: str) -> str:
        """The cell of a role; empty where no column plays it."""
        if role not in self._positions:
            return ""
        value = values[self._positions[role]]
        return value if isinstance(value, str) else cell_text(value)

    def tools(self, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """The tools of a chat; None if the column holds something else than a list."""
        if "tools" not in self._positions:
            return ()
        value = _from_json(values[self._positions["tools"]] or [])
        return tuple(value) if isinstance(value, list) else None

    def turns(self, values: Sequence[Any]) -> tuple[Turn, ...] | None:
        """None where the record is not of the kind that its columns promise."""
        if self._kind == "text":
            return (Turn("text", self.text(values, "text")),)
        if self._kind == "preference":
            return self._preference(values)
        if "messages" in self._positions:
            turns = chat_turns(values[self._positions["messages"]])
        else:
            answer = answer_turn(self.text(values, "answer"), self.text(values, "reasoning"))
            turns = (Turn("user", self._question(values)), answer)
        if not turns:
            return None
        system = self.text(values, "system") or self._system
        if not system or turns[0].role == "system":
            return turns
        return (Turn("system", system), *turns)

    def _preference(self, values: Sequence[Any]) -> tuple[Turn, ...] | None:
        """Prompt, chosen and rejected answer: a text each or, as many sets have it, messages of
        which the last one counts. None for a prompt of several turns."""
        turns = []
        for column, role in (
            ("question", "prompt"),
            ("chosen", "chosen"),
            ("rejected", "rejected"),
        ):
            value = values[self._positions[column]]
            if isinstance(value, list):
                messages = chat_turns(value)
                if not messages or (role == "prompt" and len(messages) > 1):
                    return None
                text = messages[-1].content
            else:
                text = self._question(values) if role == "prompt" else self.text(values, column)
            turns.append(Turn(role, text))
        return tuple(turns)

    def _question(self, values: Sequence[Any]) -> str:
        question, context = self.text(values, "question"), self.text(values, "context")
        return f"{question}\n\n{context}" if context.strip() else question


def chat_turns(value: Any) -> tuple[Turn, ...] | None:
    """The turns of a `messages` or `conversations` value (or its JSON text); None if it is none."""
    value = _from_json(value)
    if not isinstance(value, list) or not value:
        return None
    turns = []
    for message in value:
        if not isinstance(message, dict):
            return None
        # OpenAI writes `role` and `content`, ShareGPT `from` and `value`.
        role = _ROLES.get(str(message.get("role", message.get("from", ""))).lower())
        content = message.get("content", message.get("value"))
        used = ["role", "from", "content", "value"]
        thought = ""
        if role == "assistant":
            thoughts = {key: message[key] for key in FIELDS if isinstance(message.get(key), str)}
            thought = next((text for text in thoughts.values() if text.strip()), "")
            used += thoughts
        # Parquet fills keys that a message lacks with null.
        extra = tuple(
            (key, item) for key, item in message.items() if key not in used and item is not None
        )
        if content is None and (extra or thought):
            content = ""  # a call of a tool has no text
        if role is None or not isinstance(content, str):
            return None
        is_answer = role == "assistant"
        turns.append(
            answer_turn(content, thought, extra) if is_answer else Turn(role, content, extra)
        )
    return tuple(turns)


def _from_json(value: Any) -> Any:
    """What a cell's JSON text says; the value itself if it is no text, None if it is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def answer_turn(content: str, thought: str = "", extra: tuple[tuple[str, Any], ...] = ()) -> Turn:
    """An assistant's turn. Reasoning within its text, at the start and closed, is put apart."""
    if content.lstrip().startswith(TAG.opening) and TAG.closing in content:
        inside, content = TAG.split(content)
        thought = thought if thought.strip() else inside
    return Turn("assistant", content, extra, thought.strip())
