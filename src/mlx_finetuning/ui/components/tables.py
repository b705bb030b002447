"""Small tables as tables of the document: every text is whole, is read aloud, and can be marked.

Streamlit's data frame is drawn on a canvas; it is for tables to be chosen from or edited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from mlx_finetuning.ui.components.text import plain


def show_table(rows: Sequence[Mapping[str, str]]) -> None:
    """`rows` by the names of their columns, which are those of the first; nothing of no rows."""
    if not rows:
        return
    columns = {name: [plain(row.get(name, "")) or "—" for row in rows] for name in rows[0]}
    st.table(columns, hide_index=True, border="horizontal")
