"""Small tables as tables of the document: every text is whole, is read aloud, and can be marked. On a
narrow screen each row becomes a card (`style.css`).

Streamlit's data frame is drawn on a canvas; it is for tables to be chosen from or edited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import streamlit as st

EMPTY = "—"


SHORT = 8
"""Signs that stay in one line, of which two narrow ones count as one: figures, times, names."""


def show_table(rows: Sequence[Mapping[str, str]], links: Sequence[str] = ()) -> None:
    """`rows` by the names of their columns, which are those of the first; nothing of no rows.

    links: an address for each row, to which its first cell leads.
    """
    if not rows:
        return
    # As cards they are tables no more to a screen reader, unless it is told.
    names = "".join(f'<th role="columnheader"{_look(name)}>{escape(name)}</th>' for name in rows[0])
    first, lines = next(iter(rows[0])), []
    for row, link in zip(rows, links or [""] * len(rows), strict=True):
        cells = {name: escape(row.get(name, "")) or EMPTY for name in rows[0]}
        if link:
            cells[first] = f'<a href="{escape(link)}" target="_self">{cells[first]}</a>'
        lines.append(
            "".join(
                f'<td role="cell" data-label="{escape(name)}"{_look(row.get(name, ""))}>{cell}</td>'
                for name, cell in cells.items()
            )
        )
    body = "".join(f'<tr role="row">{line}</tr>' for line in lines)
    st.html(
        f'<table class="rows" role="table"><thead role="rowgroup"><tr role="row">{names}</tr></thead>'
        f'<tbody role="rowgroup">{body}</tbody></table>'
    )


def _look(text: str) -> str:
    if not text:
        return ' class="empty"'
    wide = sum(1.0 if sign > "\u2000" else 0.5 for sign in text)
    return ' class="short"' if wide <= SHORT else ""
