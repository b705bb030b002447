"""Records to examples: turns of text with their row, category and group. Splits nothing, drops
nothing in silence: a record that is not an example becomes a finding."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlx_finetuning.data_processor.findings import Finding, findings_at
from mlx_finetuning.data_processor.readers.columns import ColumnMap, RowKind
from mlx_finetuning.data_processor.readers.tables import Table
from mlx_finetuning.data_processor.watching import Tick, still, watched
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

    def changed(self, change: Callable[[str], str]) -> Turn:
        thought = change(self.reasoning) if self.reasoning else ""
        return self._replace(content=change(self.content), reasoning=thought)


@dataclass(frozen=True, slots=True)
class Example:
    row: int
    turns: tuple[Turn, ...]
    category: str = ""
    group: str = ""
    source: str = ""
    """The file's name, where a dataset has several."""
    tools: tuple[Any, ...] = ()
    """What the assistant may call, as JSON schemas; handed to the chat template."""

    def to_row(self, group: str) -> dict[str, Any]:
        """The line of a split's file."""
        if self.turns[0].role in ("text", "prompt"):
            fields: dict[str, Any] = {turn.role: turn.content for turn in self.turns}
        else:
            fields = {"messages": [_message(turn) for turn in self.turns]}
        if self.tools:
            fields["tools"] = list(self.tools)
        origin = {"source": self.source} if self.source else {}
        return {**fields, "row": self.row, "group": group, **origin}


def _message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.reasoning:
        message[FIELDS[0]] = turn.reasoning
    if turn.extra:
        message.update(turn.extra)
    return message


def build(
    table: Table, columns: ColumnMap, system: str, source: str = "", tick: Tick = still
) -> tuple[list[Example], list[Finding]]:
    """An example per record that can be one. `columns.kind` is set; `system` goes first in chats
    that bring no system turn of their own."""
    read = _Reader(table.columns, columns, system)
    examples, bad = [], []
    for row, values in watched(table.rows, tick):
        turns, tools = read.turns(values), read.tools(values)
        if turns is None or tools is None:
            bad.append(Example(row, (), source=source))
        else:
            category, group = read.cell(values, "category").strip(), read.group(values)
            examples.append(Example(row, turns, category, group, source, tools))
    return examples, findings_at("BAD_CHAT", bad)


class _Reader:
    """Reads turns from a record's values by the positions of the mapped columns."""

    def __init__(self, names: Sequence[str], columns: ColumnMap, system: str) -> None:
        self._at = {role: names.index(column) for role, column in columns.columns.items()}
        self._kind: RowKind | None = columns.kind
        self._system = system

    def cell(self, values: Sequence[Any], role: str) -> str:
        if role not in self._at:
            return ""
        value = values[self._at[role]]
        return value if isinstance(value, str) else as_text(value)

    def group(self, values: Sequence[Any]) -> str:
        return self.cell(values, "group").strip()

    def tools(self, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """The tools of a chat; None if the column holds something else than a list."""
        if "tools" not in self._at:
            return ()
        value = _from_json(values[self._at["tools"]] or [])
        return tuple(value) if isinstance(value, list) else None

    def turns(self, values: Sequence[Any]) -> tuple[Turn, ...] | None:
        if self._kind == "text":
            return (Turn("text", self.cell(values, "text")),)
        if self._kind == "preference":
            words = [self._words(values, role) for role in ("question", "chosen", "rejected")]
            named = zip(("prompt", "chosen", "rejected"), words, strict=True)
            found = tuple(Turn(role, text) for role, text in named if text is not None)
            return found if len(found) == len(words) else None
        if "messages" in self._at:
            turns = chat_turns(values[self._at["messages"]])
        else:
            answer = answer_turn(self.cell(values, "answer"), self.cell(values, "reasoning"))
            turns = (Turn("user", self._question(values)), answer)
        return self._with_system(turns, values) if turns else None

    def _words(self, values: Sequence[Any], role: str) -> str | None:
        """A preference's cell; of messages, as many sets have them, the last one's words. None for a
        prompt of several turns."""
        value = values[self._at[role]]
        if not isinstance(value, list):
            return self._question(values) if role == "question" else self.cell(values, role)
        said = chat_turns(value)
        if not said or (role == "question" and len(said) > 1):
            return None
        return said[-1].content

    def _question(self, values: Sequence[Any]) -> str:
        question, context = self.cell(values, "question"), self.cell(values, "context")
        return f"{question}\n\n{context}" if context.strip() else question

    def _with_system(self, turns: tuple[Turn, ...], values: Sequence[Any]) -> tuple[Turn, ...]:
        system = self.cell(values, "system") or self._system
        if not system or turns[0].role == "system":
            return turns
        return (Turn("system", system), *turns)


def as_text(value: Any) -> str:
    """A cell as text: JSON numbers as written, nothing for null, nested values as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def chat_turns(value: Any) -> tuple[Turn, ...] | None:
    """The turns of a `messages` or `conversations` value (or its JSON text); None if it is none."""
    value = _from_json(value)
    if not isinstance(value, list) or not value:
        return None
    turns = [_turn(message) for message in value]
    return None if None in turns else tuple(turn for turn in turns if turn)


def _from_json(value: Any) -> Any:
    """What a cell's JSON text says; the value itself if it is no text, None if it is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _turn(message: Any) -> Turn | None:
    if not isinstance(message, dict):
        return None
    role = _ROLES.get(str(message.get("role", message.get("from", ""))).lower())
    content = message.get("content", message.get("value"))
    known = ["role", "from", "content", "value"]
    thought = ""
    if role == "assistant":
        thoughts = {key: message[key] for key in FIELDS if isinstance(message.get(key), str)}
        thought = next((text for text in thoughts.values() if text.strip()), "")
        known += thoughts
    # Parquet fills keys that a message lacks with null.
    extra = tuple(
        (key, item) for key, item in message.items() if key not in known and item is not None
    )
    if content is None and (extra or thought):
        content = ""  # a call of a tool has no words
    if role == "assistant" and isinstance(content, str):
        return answer_turn(content, thought, extra)
    return Turn(role, content, extra) if role and isinstance(content, str) else None


def answer_turn(content: str, thought: str = "", extra: tuple[tuple[str, Any], ...] = ()) -> Turn:
    """An assistant's turn. Reasoning within its text, at the start and closed, is put apart."""
    if content.lstrip().startswith(TAG.opening) and TAG.closing in content:
        inside, content = TAG.split(content)
        thought = thought if thought.strip() else inside
    return Turn("assistant", content, extra, thought.strip())
