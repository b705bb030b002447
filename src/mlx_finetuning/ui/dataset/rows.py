"""Rows to be edited: a table for many, and a form that opens one, which works without a pointer, on a
narrow screen and for long texts and conversations. Every change is kept at once as a step of the draft."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import streamlit as st

from mlx_finetuning.data_processor.edits import END, EditedTable, messages_in, turn_texts
from mlx_finetuning.data_processor.readers.roles import role_of
from mlx_finetuning.data_processor.readers.tables import cell_text
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.editing import Editing

PAGE = 50
"""Rows of a table that are shown at once."""
SPEAKERS_JA = {
    "user": N_("質問"),
    "assistant": N_("回答"),
    "system": N_("システム文"),
    "tool": N_("ツール"),
}
CUT = re.compile(r"(?m)^[ 　]*={3,}[ 　]*$\n?")
"""The line at which a text is to be divided."""


class Done(TypedDict):
    """What was done in the table since it was drawn anew, by positions."""

    edited_rows: dict[int, dict[str, str | None]]
    deleted_rows: list[int]


@dataclass(frozen=True)
class Shown:
    """The rows in the table of this tab. They stay while they are edited, found again or not."""

    what: str
    rows: tuple[int, ...]
    cells: dict[str, list[str]]
    """By column; of the rows as they were when the table was drawn anew."""
    locked: tuple[str, ...]
    """Columns that hold more than text: they are edited in the form."""
    generation: int


def draw_rows(
    editing: Editing, table: EditedTable, what: str, find: Callable[[], Sequence[int]]
) -> None:
    """The rows that `find` gives when `what` is first shown, in the table and in the form."""
    shown = _shown(editing, table, what, find)
    if shown.rows:
        _draw_table(editing, shown)
        row = st.selectbox(
            _("1行を開いて直す"),
            [row for row in shown.rows if row in table.values],
            index=None,
            format_func=lambda row: _("{row}行目").format(row=row),
            key=editing.key(f"row-{what}"),
            placeholder=_("行を選ぶ（長い文章、会話、分割、結合）"),
        )
        if row is not None:
            _draw_form(editing, table, row)
    else:
        st.caption(_("行がありません。"))
    after = shown.rows[-1] if shown.rows else END
    st.button(
        _("行を足す"),
        key=editing.key(f"add-{what}"),
        icon=":material/add:",
        on_click=_do,
        args=(editing, lambda table: _remember(editing, table.add(after))),
    )


def draw_all(editing: Editing, table: EditedTable) -> None:
    """Any row: searched for, a page at a time."""
    wanted = st.text_input(
        _("探す文字"), key=editing.key("search"), placeholder=_("全ての行から探す")
    ).casefold()
    rows = [
        row
        for row, values in table.records()
        if not wanted or any(wanted in cell_text(value).casefold() for value in values)
    ]
    pages = max(1, -(-len(rows) // PAGE))
    page = st.pagination(pages, key=editing.key(f"page-{wanted}")) if pages > 1 else 1
    st.caption(
        _("{rows_count:,}行").format(rows_count=len(rows))
        + (_("（{page}行ずつ）").format(page=PAGE) if pages > 1 else "")
    )
    draw_rows(editing, table, f"all-{wanted}-{page}", lambda: rows[(page - 1) * PAGE : page * PAGE])


def _shown(
    editing: Editing, table: EditedTable, what: str, find: Callable[[], Sequence[int]]
) -> Shown:
    """What was shown before, unless something else is looked at or it is to be drawn anew."""
    shown: Shown | None = st.session_state.get(editing.key("shown"))
    if shown is not None and shown.what == what:
        return shown
    rows_of: dict[str, tuple[int, ...]] = st.session_state.setdefault(editing.key("rows"), {})
    if what not in rows_of:
        rows_of.clear()
        rows_of[what] = tuple(find())
    rows = tuple(row for row in rows_of[what] if row in table.values)
    columns = {
        name: [table.values[row][at] for row in rows] for at, name in enumerate(table.columns)
    }
    locked = [
        name
        for name, values in columns.items()
        if any(isinstance(value, list | dict) or messages_in(value) for value in values)
    ]
    generation = st.session_state.get(editing.key("generation"), 0) + 1
    st.session_state[editing.key("generation")] = generation
    texts = {name: [cell_text(value) for value in values] for name, values in columns.items()}
    shown = Shown(what, rows, texts, tuple(locked), generation)
    st.session_state[editing.key("shown")] = shown
    return shown


# Its toolbar speaks English only; what it offers is offered below the table.
_WITHOUT_TOOLBAR = """<style>
[class*="st-key-edit-"] [data-testid="stElementToolbar"] { display: none; }
</style>"""


def _draw_table(editing: Editing, shown: Shown) -> None:
    import pandas as pd

    st.html(_WITHOUT_TOOLBAR)
    key = editing.key(f"table-{shown.generation}")
    index = pd.Index(shown.rows, name=_("行"))
    st.data_editor(
        pd.DataFrame(shown.cells, index=index, dtype="str"),
        key=key,
        num_rows="delete",
        disabled=["_index", *shown.locked],
        column_config={
            name: st.column_config.TextColumn(name, width="medium") for name in shown.cells
        },
        placeholder=_("（空）"),
        on_change=_take_over,
        args=(editing, shown, key),
    )
    locked = (
        _("「{locked}」は、下で1行ずつ直します。").format(
            locked=_("」「").join(map(plain, shown.locked))
        )
        if shown.locked
        else ""
    )
    st.caption(
        _(
            "セルをダブルクリックするか、選んで入力すると直せます。"
            "行は、左端の四角で選んで削除キーで消せます。"
            "直した内容は、そのつど作業フォルダに残ります。"
            "{locked}"
        ).format(locked=locked)
    )


def _take_over(editing: Editing, shown: Shown, key: str) -> None:
    """For the table's callback: what was done in it becomes steps."""
    done: Done = st.session_state[key]

    def change(table: EditedTable) -> None:
        for position, cells in done["edited_rows"].items():
            row = shown.rows[position]
            for column, value in cells.items():
                if row in table.values:
                    table.set(row, column, value or "")
        for position in done["deleted_rows"]:
            if shown.rows[position] in table.values:
                table.delete(shown.rows[position])

    editing.change(change)
    if done["deleted_rows"]:
        editing.renew()


def _do(editing: Editing, change: Callable[[EditedTable], None]) -> None:
    """For callbacks: change something, and show what has come of it."""
    editing.change(change)
    editing.renew()


def _remember(editing: Editing, row: int) -> None:
    """Have a new row shown among those that are looked at."""
    rows_of = st.session_state.get(editing.key("rows"), {})
    for what, rows in rows_of.items():
        rows_of[what] = (*rows, row)


# --- one row in a form -------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """An input of the form: a cell, or one turn of the conversation in it."""

    column: str
    label: str
    text: str
    key: str
    turn: int = 0

    @property
    def typed(self) -> str:
        """What stands in it now; line ends as the file has them."""
        value = str(st.session_state.get(self.key, self.text))
        return self.text if value == self.text.replace("\r\n", "\n") else value


def _draw_form(editing: Editing, table: EditedTable, row: int) -> None:
    # Another form once the row has changed: its inputs begin with what now stands there.
    stem = editing.key(f"form-{row}-{len(table.edits)}")
    fields = _fields(table, row, stem)
    order = [number for number, __ in table.records()]
    following = order[order.index(row) + 1 : order.index(row) + 1 + PAGE]
    with st.form(stem):
        for field in fields:
            st.text_area(field.label, field.text, key=field.key, height="content")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            _action(_("直す"), ":material/check:", editing, lambda table: _set(table, row, fields))
            _action(
                _("2つに分ける"),
                ":material/call_split:",
                editing,
                lambda table: _remember(editing, _split(table, row, fields)),
            )
            _action(_("消す"), ":material/delete:", editing, lambda table: table.delete(row))
        st.caption(
            _(
                "2つに分けるときは、分けたいところに === だけの行を入れてください。入れなければ、同じ行が2つになります。"
            )
        )
        if any(field.turn for field in fields):
            st.caption(_("空にした発言は、会話から除きます。"))
        if following:
            with st.container(horizontal=True, vertical_alignment="bottom"):
                st.selectbox(
                    _("まとめる相手"),
                    following,
                    format_func=lambda number: _("{number}行目").format(number=number),
                    key=f"{stem}-other",
                    placeholder=_("選択"),
                )
                _action(
                    _("まとめる"),
                    ":material/merge:",
                    editing,
                    lambda table: table.merge(row, st.session_state[f"{stem}-other"]),
                )


def _action(label: str, icon: str, editing: Editing, change: Callable[[EditedTable], None]) -> None:
    st.form_submit_button(label, icon=icon, on_click=_do, args=(editing, change))


def _fields(table: EditedTable, row: int, stem: str) -> list[Field]:
    fields = []
    for column, value in zip(table.columns, table.values[row], strict=True):
        messages = messages_in(value)
        if messages is None:
            fields.append(Field(column, column, cell_text(value), f"{stem}-{column}"))
            continue
        for turn, (speaker, text) in enumerate(turn_texts(messages), 1):
            said = _(SPEAKERS_JA.get(role_of(speaker) or "", speaker))
            fields.append(Field(column, f"{turn}. {said}", text, f"{stem}-{column}-{turn}", turn))
        for turn, said in enumerate((_("質問"), _("回答")), len(messages) + 1):
            label = _("{turn}. {said}（続きを足すとき）").format(turn=turn, said=said)
            fields.append(Field(column, label, "", f"{stem}-{column}-{turn}", turn))
    return fields


def _set(table: EditedTable, row: int, fields: Sequence[Field]) -> None:
    for column in dict.fromkeys(field.column for field in fields):
        own = [field for field in fields if field.column == column]
        if own[0].turn:
            table.set_turns(row, column, [field.typed for field in own])
        else:
            table.set(row, column, own[0].typed)


def _split(table: EditedTable, row: int, fields: Sequence[Field]) -> int:
    """The number of the second row. A text without a line to cut at goes to both."""
    first: list[tuple[str, str]] = []
    second: list[tuple[str, str]] = []
    for field in fields:
        parts = CUT.split(field.typed, maxsplit=1)
        texts = (parts[0].removesuffix("\n"), parts[1]) if parts[1:] else (parts[0], parts[0])
        for half, text in zip((first, second), texts, strict=True):
            if text != field.text and not field.turn:
                half.append((field.column, text))
    return table.split(row, tuple(first), tuple(second))
