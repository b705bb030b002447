"""Edits of a source's rows that are not saved yet: kept in the workspace, shown and undone here.

They are read from disk at each drawing, so a reload, a second tab or a restarted server goes on with
them. A tab that has not seen the newest ones shows them before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.edits import (
    AddRow,
    DeleteRow,
    Edit,
    EditedTable,
    MergeRows,
    SetCell,
    SplitRow,
)
from mlx_finetuning.data_processor.readers.read import Reading
from mlx_finetuning.data_processor.settings import READING
from mlx_finetuning.errors import StudioError
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio

LISTED = 20
"""Edits that are named, the last ones."""
MANY = 20_000
"""Rows beyond which a check takes seconds that nobody waits for after each edit."""


@dataclass(frozen=True)
class Editing:
    """The rows of one file as they are edited, for a new dataset or a saved one."""

    of: Path | str
    """The file that was handed in, or the dataset's name: whose draft it is."""
    path: Path
    settings: PrepareConfig
    saved: tuple[Edit, ...] = ()
    """The edits that a draft begins with."""
    source: str = ""
    """The file's name in edits, where a dataset has several."""

    def key(self, name: str) -> str:
        """The key of a widget, or of what this tab remembers."""
        dataset = self.of if isinstance(self.of, str) else ""
        return f"edit-{self.path.parent.name}-{dataset}-{self.source}-{name}"

    @property
    def draft(self) -> tuple[Edit, ...] | None:
        """The unsaved edits that this tab has seen last."""
        if self.key("seen") not in st.session_state:
            self.look()
        seen: tuple[Edit, ...] | None = st.session_state[self.key("seen")]
        return seen

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All that hold now."""
        return self.saved if self.draft is None else self.draft

    def table(self) -> EditedTable:
        """The rows after the edits. Raises DataError."""
        reading = cached_reading(self.path, self.settings)
        return EditedTable(reading.table, self.edits, self.source)

    def look(self) -> None:
        """See what is on disk; what other tabs have changed is shown afresh. Raises RecordDamaged."""
        draft = studio().data.draft(self.of)
        if draft != st.session_state.get(self.key("seen"), draft):
            self.renew()
        st.session_state[self.key("seen")] = draft

    def renew(self, *, forgets: bool = False) -> None:
        """Have the table of rows drawn from what they now hold, and with `forgets` the rows found anew."""
        for name in ("shown", "rows") if forgets else ("shown",):
            st.session_state.pop(self.key(name), None)

    def change(self, change: Callable[[EditedTable], object]) -> None:
        """For callbacks: do it and keep it. What goes wrong is shown at the next drawing."""
        try:
            table = self.table()
            change(table)
            self.keep(table.edits)
        except StudioError as error:
            st.session_state[self.key("error")] = error
            self.renew()

    def keep(self, edits: Sequence[Edit]) -> None:
        """Raises DraftChanged, DiskFull."""
        studio().data.keep_draft(self.of, edits, self.draft)
        st.session_state[self.key("seen")] = tuple(edits)

    def undo(self, count: int) -> None:
        """For callbacks: take back the last edits."""
        edits = self.edits
        try:
            self.keep(edits[: len(edits) - count])
        except StudioError as error:
            st.session_state[self.key("error")] = error
        self.renew()


def begin(
    of: Path | str,
    path: Path,
    settings: PrepareConfig,
    saved: tuple[Edit, ...] = (),
    source: str = "",
) -> Editing:
    """The edits as they are now on disk, after what went wrong with the last one."""
    editing = Editing(of, path, settings, saved, source)
    error = st.session_state.pop(editing.key("error"), None)
    if error is not None:
        show_error(error)
    try:
        editing.look()
    except StudioError:  # a damaged draft must not bar the file
        studio().data.discard_draft(of)
        st.session_state[editing.key("seen")] = None
        st.warning(_("保存していない直しの記録が壊れていて読めないため、捨てました。"))
    return editing


def cached_reading(path: Path, settings: PrepareConfig) -> Reading:
    """The file, read once for all that is looked up and changed in it."""
    asked = PrepareConfig(**{name: getattr(settings, name) for name in READING})
    with st.spinner(_("ファイルを読んでいます…")):
        return _cached_reading(str(path), path.stat().st_mtime_ns, asked)


@st.cache_resource(max_entries=2, show_spinner=False)
def _cached_reading(path: str, changed_ns: int, asked: PrepareConfig) -> Reading:
    """Shared by all tabs and never changed: edits make new rows."""
    return studio().data.open(Path(path), asked)


def inspected(editing: Editing, mapping: tuple[tuple[str, str], ...]) -> Inspection:
    """What checking the file gave after the edits. Of many rows, after those that stood when the check
    was asked for last; saving checks them all. Raises DataError."""
    # The file is looked at alone, so its edits need no name and its columns no others' mapping.
    own = (edit for edit in editing.edits if edit.source == editing.source)
    edits = tuple(replace(edit, source="") for edit in own)
    table = cached_reading(editing.path, editing.settings).table
    if editing.source:
        mapping = tuple((role, name) for role, name in mapping if name in ("", *table.columns))
    if len(table.records) > MANY:
        checked = st.session_state.setdefault(editing.key("checked"), edits)
        if checked != edits:
            st.info(
                _("{many:,}行より多いため、直した内容の検査は、押したときに行います。").format(
                    many=MANY
                ),
                icon=":material/fact_check:",
            )
            if not st.button(_("検査し直す"), icon=":material/refresh:"):
                edits = checked
            st.session_state[editing.key("checked")] = edits
    changed_ns = editing.path.stat().st_mtime_ns
    with st.spinner(_("ファイルを調べています…")):
        return _cached_inspection(str(editing.path), changed_ns, editing.settings, mapping, edits)


@st.cache_data(max_entries=4, show_spinner=False)
def _cached_inspection(
    path: str,
    changed_ns: int,
    settings: PrepareConfig,
    mapping: tuple[tuple[str, str], ...],
    edits: tuple[Edit, ...],
) -> Inspection:
    reading = cached_reading(Path(path), settings)
    return studio().data.inspect(
        reading, mapping=dict(mapping) or None, settings=settings, edits=edits
    )


def draw_undo(editing: Editing) -> None:
    """What was edited, the last first, with the way back; nothing before the first edit."""
    edits = editing.edits
    if not edits:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            _(":material/edit: **直したところ {edits_count:,}か所**").format(edits_count=len(edits))
        )
        for label, count in ((_("1つ戻す"), 1), (_("全て元に戻す"), len(edits))):
            st.button(
                label,
                key=editing.key(f"undo-{label}"),
                icon=":material/undo:",
                on_click=editing.undo,
                args=(count,),
            )
    with st.expander(_("直したところの一覧"), icon=":material/history:"):
        lines = [f"- {plain(described(edit))}" for edit in edits[: -LISTED - 1 : -1]]
        more = (
            [_("- ほか{edits_count:,}か所").format(edits_count=len(edits) - LISTED)]
            if len(edits) > LISTED
            else []
        )
        st.markdown("\n".join([*lines, *more]))


def described(edit: Edit) -> str:
    """One step in a line."""
    match edit:
        case SetCell():
            turn = _("の{turn}番目の発言").format(turn=edit.turn) if edit.turn else ""
            return _("{row}行目の「{column}」{turn}を書き換え").format(
                row=edit.row, column=edit.column, turn=turn
            )
        case DeleteRow():
            return _("{row}行目を消去").format(row=edit.row)
        case AddRow():
            return _("{row}行目を追加").format(row=edit.row)
        case SplitRow():
            return _("{row}行目を2つに分割（後ろは{new_row}行目）").format(
                row=edit.row, new_row=edit.new_row
            )
        case MergeRows():
            return _("{row}行目に{other}行目を結合").format(row=edit.row, other=edit.other)
