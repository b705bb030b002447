"""What people change in a source's rows, as explicit steps over its records. The file stays as it came.

A step names the row, says by a fingerprint what stood there, and what stands there now; steps are
applied in their order, before columns are chosen, cleaned and checked. Rows that are added have
numbers behind the source's last one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from mlx_finetuning.data_processor.findings import Finding, finding
from mlx_finetuning.data_processor.readers.limits import MAX_CELL
from mlx_finetuning.data_processor.readers.roles import ROLE_KEYS, TEXT_KEYS, role_of
from mlx_finetuning.data_processor.readers.tables import Table, cell_text
from mlx_finetuning.data_processor.values import parsed
from mlx_finetuning.errors import CellTooLong, EditMismatch
from mlx_finetuning.language import _

Cells: TypeAlias = tuple[tuple[str, str], ...]
"""Columns with their texts."""
END = 0
_FINGERPRINT = 16
"""Hex digits that are kept of a digest: it tells changes, not attackers."""


@dataclass(frozen=True)
class SetCell:
    """A cell gets another text, or one turn of the conversation in it."""

    row: int
    column: str
    was: str
    value: str
    turn: int = 0
    """From 1, of a conversation's messages; 0 for the whole cell."""
    source: str = ""
    """The file's name, where a dataset has several; so in all steps."""
    action: Literal["set"] = "set"


@dataclass(frozen=True)
class DeleteRow:
    """A row is left out."""

    row: int
    was: str
    source: str = ""
    action: Literal["delete"] = "delete"


@dataclass(frozen=True)
class AddRow:
    """A row of its own; cells that are not named are empty."""

    row: int
    after: int
    """The row it stands behind; `END` for behind all."""
    values: Cells = ()
    source: str = ""
    wording_of: int = 0
    """The row that it asks in other words: both are of one group."""
    refusal: bool = False
    """It asks what the data does not answer, and says so."""
    split: str = ""
    """Where it goes, if that is decided."""
    made_by: str = ""
    """What wrote it: a kind of rule, or a model's name; empty for people."""
    action: Literal["add"] = "add"


@dataclass(frozen=True)
class SplitRow:
    """One row becomes two; cells that are not named are in both as they were."""

    row: int
    was: str
    first: Cells
    new_row: int
    """The number of the second, which stands behind the first."""
    second: Cells
    source: str = ""
    action: Literal["split"] = "split"


@dataclass(frozen=True)
class MergeRows:
    """Two rows become one, in the place of the first."""

    row: int
    was: str
    other: int
    other_was: str
    values: Cells
    """Cells of the first that change by it."""
    source: str = ""
    action: Literal["merge"] = "merge"


Edit: TypeAlias = SetCell | DeleteRow | AddRow | SplitRow | MergeRows


def fingerprint(value: Any) -> str:
    """What tells a cell's value, or a turn's text, from another."""
    return _digest(cell_text(value))


def row_fingerprint(values: Iterable[Any]) -> str:
    """What tells a row from another."""
    return _digest(json.dumps([cell_text(value) for value in values], ensure_ascii=False))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_FINGERPRINT]


def messages_in(value: Any) -> list[Mapping[str, Any]] | None:
    """The messages of a cell whose texts can be changed one by one; None for other cells."""
    if isinstance(value, str):
        if not value.startswith("[{"):
            return None
        value = parsed(value)[0]
    is_chat = isinstance(value, list) and value and all(_text_key(item) for item in value)
    return value if is_chat else None


def _text_key(message: Any) -> str | None:
    """The key of a message's text, where it has one and says who speaks."""
    if not isinstance(message, dict) or not {*message} & {*ROLE_KEYS}:
        return None
    return next((key for key in TEXT_KEYS if isinstance(message.get(key), str)), None)


def turn_texts(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Who speaks, as it is written, and what is said."""
    return [
        (
            next(str(item[key]) for key in ROLE_KEYS if key in item),
            str(item[_text_key(item) or ""]),
        )
        for item in messages
    ]


def _message_like(messages: Sequence[Mapping[str, Any]], role: str, text: str) -> Mapping[str, Any]:
    """A message of this role, in the words that the others use."""
    for message in messages:
        for key in ROLE_KEYS:
            if key in message and role_of(message[key]) == role:
                return {key: message[key], _text_key(message) or "content": text}
    return {"role": role, "content": text}


def apply(table: Table, edits: Sequence[Edit], source: str = "") -> Table:
    """The table after the steps that are about `source`; the given one stays as it is.

    Raises EditMismatch, CellTooLong.
    """
    edited = EditedTable(table, edits, source)
    return replace(table, records=edited.records()) if edited.changed else table


def findings_of(edits: Sequence[Edit], source: str = "") -> list[Finding]:
    """What is to be said of the steps that are about `source`."""
    rows = [edit.row for edit in edits if edit.source == source]
    return [finding("EDITED", sorted({*rows}), count=len(rows))] if rows else []


@dataclass(frozen=True)
class AddedRows:
    """What steps say of the rows of one source, beside their cells."""

    first_wording: dict[int, int]
    """Row → the row whose question it asks in other words; that one itself, too."""
    refusals: frozenset[int]
    splits: dict[int, str]


NOTHING_ADDED = AddedRows({}, frozenset(), {})


def added_rows(edits: Sequence[Edit], source: str = "") -> AddedRows:
    """What the steps about `source` say of the rows they add."""
    added = [edit for edit in edits if isinstance(edit, AddRow) and edit.source == source]
    first: dict[int, int] = {}
    for edit in added:
        if edit.wording_of:
            root = first.setdefault(edit.wording_of, edit.wording_of)
            first[edit.row] = root
    return AddedRows(
        first,
        frozenset(edit.row for edit in added if edit.refusal),
        {edit.row: edit.split for edit in added if edit.split},
    )


class EditedTable:
    """The rows of one source's table after steps, and where further steps are made."""

    def __init__(self, table: Table, edits: Sequence[Edit] = (), source: str = "") -> None:
        """Raises EditMismatch, CellTooLong."""
        self.columns = table.columns
        self.edits: list[Edit] = []
        """All steps, those about other sources too."""
        self.values: dict[int, list[Any]] = dict(table.records)
        """Row → its values; lists of the table itself until they change."""
        self.changed: set[int] = set()
        """Rows that a step is about."""
        self._source = source
        self._records = table.records
        self._positions = {name: at for at, name in enumerate(table.columns)}
        self._last = max(self.values, default=0)
        self._behind: dict[int, list[int]] = {}
        for edit in edits:
            if edit.source == source:
                self.take(edit)
            else:
                self.edits.append(edit)

    def records(self) -> list[tuple[int, list[Any]]]:
        """In the order of the source, added rows behind those they were put behind."""
        records: list[tuple[int, list[Any]]] = []
        waiting = [*self._behind.get(END, ())[::-1], *(row for row, __ in self._records[::-1])]
        while waiting:
            row = waiting.pop()
            if row in self.values:
                records.append((row, self.values[row]))
            # What was put behind a row last stands next to it.
            waiting += self._behind.get(row, ())
        return records

    def text(self, row: int, column: str) -> str:
        """A cell as it is shown. Raises EditMismatch."""
        return cell_text(self._existing(row)[self._position(row, column)])

    # --- making steps --------------------------------------------------------------------

    def set(self, row: int, column: str, value: str, turn: int = 0) -> None:
        """Another text for a cell or a turn (from 1). Raises EditMismatch, CellTooLong."""
        old = self._existing(row)[self._position(row, column)]
        if turn:
            old = self._turn(row, old, turn)[1]
        if cell_text(old) != value:
            self.take(SetCell(row, column, fingerprint(old), value, turn, self._source))

    def set_turns(self, row: int, column: str, texts: Sequence[str]) -> None:
        """A text for each turn of a conversation; one that is emptied goes, further ones are added,
        the user's first. Raises EditMismatch, CellTooLong."""
        messages = messages_in(self._existing(row)[self._position(row, column)]) or []
        before = turn_texts(messages)
        kept: list[Mapping[str, Any]] = []
        for message, (__, old), text in zip(messages, before, texts, strict=False):
            if text or not old:
                kept.append({**message, _text_key(message) or "": text})
        added = [text for text in texts[len(messages) :] if text]
        if len(kept) == len(messages) and not added:
            for turn, text in enumerate(texts, 1):
                self.set(row, column, text, turn)
            return
        for at, text in enumerate(added):
            kept.append(_message_like(messages, ("user", "assistant")[at % 2], text))
        self.set(row, column, json.dumps(kept, ensure_ascii=False))

    def delete(self, row: int) -> None:
        """Raises EditMismatch."""
        self.take(DeleteRow(row, row_fingerprint(self._existing(row)), self._source))

    def add(
        self,
        after: int = END,
        values: Cells = (),
        *,
        wording_of: int = 0,
        refusal: bool = False,
        split: str = "",
        made_by: str = "",
    ) -> int:
        """The number of a new row behind another. Raises EditMismatch, CellTooLong."""
        row = self._next_row()
        self.take(AddRow(row, after, values, self._source, wording_of, refusal, split, made_by))
        return row

    def split(self, row: int, first: Cells, second: Cells) -> int:
        """The number of the row with the second part. Raises EditMismatch, CellTooLong."""
        new = self._next_row()
        was = row_fingerprint(self._existing(row))
        self.take(SplitRow(row, was, first, new, second, self._source))
        return new

    def merge(self, row: int, other: int) -> None:
        """Texts that differ go one below the other; conversations, one behind the other.

        Raises EditMismatch, CellTooLong.
        """
        values, more = self._existing(row), self._existing(other)
        cells = []
        for column, first, second in zip(self.columns, values, more, strict=True):
            chats = messages_in(first), messages_in(second)
            if chats[0] and chats[1]:
                joined = json.dumps([*chats[0], *chats[1]], ensure_ascii=False)
            else:
                texts = dict.fromkeys((cell_text(first), cell_text(second)))
                joined = "\n".join(text for text in texts if text.strip())
            if joined != cell_text(first):
                cells.append((column, joined))
        was, other_was = row_fingerprint(values), row_fingerprint(more)
        self.take(MergeRows(row, was, other, other_was, tuple(cells), self._source))

    def _next_row(self) -> int:
        return max(self._last, *(row for rows in self._behind.values() for row in rows), 0) + 1

    # --- taking steps --------------------------------------------------------------------

    def take(self, edit: Edit) -> None:
        """Apply one step. Raises EditMismatch, CellTooLong."""
        match edit:
            case SetCell():
                self._set(edit)
            case DeleteRow():
                self._require(edit.row, edit.was)
                del self.values[edit.row]
            case AddRow():
                self._add(edit.row, edit.after, [""] * len(self.columns), edit.values)
            case SplitRow():
                values = self._require(edit.row, edit.was)
                self._add(edit.new_row, edit.row, values, edit.second)
                self.values[edit.row] = self._changed(edit.row, values, edit.first)
            case MergeRows():
                values = self._require(edit.row, edit.was)
                self._require(edit.other, edit.other_was)
                self.values[edit.row] = self._changed(edit.row, values, edit.values)
                del self.values[edit.other]
        self.changed.add(edit.row)
        self.edits.append(edit)

    def _set(self, edit: SetCell) -> None:
        values = self._existing(edit.row)
        at = self._position(edit.row, edit.column)
        old: Any = values[at]
        new: Any = edit.value
        if edit.turn:
            key, old = self._turn(edit.row, values[at], edit.turn)
            changed = [dict(message) for message in messages_in(values[at]) or ()]
            changed[edit.turn - 1][key] = edit.value
            new = changed
        if fingerprint(old) != edit.was:
            raise EditMismatch(
                row=edit.row,
                reason=_("「{column}」の元の内容が違います").format(column=edit.column),
            )
        self._require_length(edit.row, edit.value)
        self.values[edit.row] = [*values[:at], new, *values[at + 1 :]]

    def _turn(self, row: int, value: Any, turn: int) -> tuple[str, str]:
        """The key of a turn's text, and the text."""
        messages = messages_in(value) or []
        if not 0 < turn <= len(messages):
            raise EditMismatch(row=row, reason=_("{turn}番目の発言がありません").format(turn=turn))
        key = _text_key(messages[turn - 1]) or ""
        return key, messages[turn - 1][key]

    def _existing(self, row: int) -> list[Any]:
        if row not in self.values:
            raise EditMismatch(row=row, reason=_("その行がありません"))
        return self.values[row]

    def _require(self, row: int, was: str) -> list[Any]:
        values = self._existing(row)
        if row_fingerprint(values) != was:
            raise EditMismatch(row=row, reason=_("行の元の内容が違います"))
        return values

    def _position(self, row: int, column: str) -> int:
        if column not in self._positions:
            raise EditMismatch(
                row=row, reason=_("「{column}」という列がありません").format(column=column)
            )
        return self._positions[column]

    def _changed(self, row: int, values: Sequence[Any], cells: Cells) -> list[Any]:
        changed = [*values]
        for column, text in cells:
            self._require_length(row, text)
            changed[self._position(row, column)] = text
        return changed

    def _add(self, row: int, after: int, values: Sequence[Any], cells: Cells) -> None:
        if row < self._next_row():
            raise EditMismatch(row=row, reason=_("足した行の番号が、ほかの行と重なります"))
        if after != END:
            self._existing(after)
        self.values[row] = self._changed(row, values, cells)
        self._behind.setdefault(after, []).append(row)

    def _require_length(self, row: int, text: str) -> None:
        if len(text) > MAX_CELL:
            raise CellTooLong(path=_("直した内容"), line=row, limit=MAX_CELL)
