"""How the file was read: encoding with its override, the first rows, and which column is what."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.readers.columns import ROLE_JA
from mlx_finetuning.data_processor.readers.encoding import AUTO, CERTAIN, CODECS
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.choices import Choices

MAIN_ROLES = ("question", "answer")
UNUSED = ""


def draw_encoding(choices: Choices, found: Inspection | None) -> None:
    """`found` is None where the file could not be read as it is asked to be."""
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    left.selectbox(
        "文字コード",
        [AUTO, *CODECS],
        format_func=lambda name: "自動判定" if name == AUTO else name,
        key=choices.key("encoding"),
        placeholder="選択",
    )
    if found is None:
        return
    if found.encoding_confidence < CERTAIN:
        right.warning(
            f"{found.encoding} として読みましたが、自信がありません。下の表が正しく読めているか見てください。"
        )
    else:
        right.caption(f"{found.encoding}　{plain(found.encoding_reason)}")


def draw_preview(found: Inspection) -> None:
    st.dataframe(list(found.preview), hide_index=True, placeholder="（空）")
    st.caption(f"はじめの{len(found.preview)}行。全部で{found.source_rows:,}行あります。")


def draw_columns(choices: Choices, found: Inspection) -> None:
    """Question and answer first; the other roles folded."""
    chosen = {choice.role: choice for choice in found.mapping}
    main = [role for role in ROLE_JA if role in MAIN_ROLES or role in chosen]
    for at in range(0, len(main), 3):
        for role, place in zip(main[at : at + 3], st.columns(3), strict=False):
            with place:
                column = chosen[role].column if role in chosen else UNUSED
                _draw_role(choices, role, column, found.columns)
                st.caption(plain(chosen[role].reason) if role in chosen else "まだ決まっていません")
    with st.expander("ほかの役割（システム文、カテゴリなど）", icon=":material/view_column:"):
        for role in ROLE_JA:
            if role not in main:
                _draw_role(choices, role, UNUSED, found.columns)
    if found.unmapped:
        st.caption(f"使わない列: {plain('、'.join(found.unmapped))}")


def _draw_role(choices: Choices, role: str, column: str, columns: Sequence[str]) -> None:
    options = [UNUSED, *columns]
    st.selectbox(
        ROLE_JA[role],
        options,
        index=options.index(column),
        format_func=lambda name: name or "（使わない）",
        key=choices.key(f"role-{role}"),
        on_change=choices.set,
        args=(f"changed-{role}", True),
        placeholder="選択",
    )
