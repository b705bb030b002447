"""How the file was read: encoding with its override, the first rows, and which column is what."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.readers.columns import ROLE_JA
from mlx_finetuning.data_processor.readers.encoding import AUTO, CERTAIN, CODECS
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.choices import Choices

MAIN_ROLES = ("question", "answer")
UNUSED = ""
PREVIEWED = 120
"""Characters of a cell that are enough to see what it holds."""
CODECS_JA = {AUTO: N_("自動判定"), "cp932": N_("Windowsの日本語（cp932）")}
"""Where people have another name for them."""
DELIMITERS_JA = {
    "auto": N_("自動判定"),
    "comma": N_("コンマ"),
    "tab": N_("タブ"),
    "semicolon": N_("セミコロン"),
    "pipe": N_("縦棒（|）"),
    "，": N_("全角コンマ（，）"),
    "、": N_("読点（、）"),
}
HIDDEN_JA = {"read": N_("読む"), "skip": N_("読み飛ばす")}


def draw_encoding(choices: Choices, inspection: Inspection | None) -> None:
    """`inspection` is None where the file could not be read as it is asked to be."""
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    left.selectbox(
        _("文字コード"),
        [AUTO, *CODECS],
        format_func=lambda name: _(CODECS_JA.get(str(name), str(name))),
        key=choices.key("encoding"),
        placeholder=_("選択"),
    )
    if inspection is None:
        return
    if inspection.encoding_confidence < CERTAIN:
        right.warning(
            _(
                "{encoding} として読みましたが、自信がありません。下の表が正しく読めているか見てください。"
            ).format(encoding=inspection.encoding)
        )
    else:
        named = _(CODECS_JA.get(str(inspection.encoding), str(inspection.encoding)))
        right.caption(plain(f"{named}　{inspection.encoding_reason}"))


def draw_table(choices: Choices, inspection: Inspection | None) -> None:
    """Where the table lies: sheet, header and delimiter, found unless they are chosen."""
    sheets = inspection.sheets if inspection else ()
    chosen = choices.value("sheet", "")
    if chosen and chosen not in sheets:
        sheets = (*sheets, chosen)
    with st.expander(_("表の場所（シート、見出し、区切り）"), icon=":material/table_view:"):
        for cell, (name, label, options) in zip(
            st.columns(3),
            (
                ("sheet", _("シート"), {"": _("自動で選ぶ"), **{name: name for name in sheets}}),
                ("delimiter", _("区切り"), {one: _(told) for one, told in DELIMITERS_JA.items()}),
                ("hidden", _("隠れた行と列"), {one: _(told) for one, told in HIDDEN_JA.items()}),
            ),
            strict=True,
        ):
            cell.selectbox(
                label,
                list(options),
                format_func=lambda chosen, options=options: options.get(chosen, chosen),
                key=choices.key(name),
                placeholder=_("選択"),
                # Any sign may divide a table; the other lists are whole.
                accept_new_options=name == "delimiter",
                help=_("一覧にない記号は、1文字を打ち込めます") if name == "delimiter" else None,
            )
        st.text_input(
            _("見出しの行"),
            placeholder=_("自動で見つける"),
            key=choices.key("header_row"),
            help=_("行の番号。0なら見出しなし、2-3 なら2行を合わせて見出しにします"),
        )
    if inspection is not None and inspection.sheet and len(inspection.sheets) > 1:
        st.caption(_("シート「{sheet}」を読みました。").format(sheet=plain(inspection.sheet)))


def draw_preview(inspection: Inspection) -> None:
    """The first rows as they were read."""
    show_table(
        [
            {name: textwrap.shorten(str(text), PREVIEWED) for name, text in row.items()}
            for row in inspection.preview
        ]
    )
    st.caption(
        _(
            "はじめの{preview_count}行、元のファイルのままです（文章の整え方は、下で選びます）。"
            "全部で{source_rows:,}行あります。"
        ).format(preview_count=len(inspection.preview), source_rows=inspection.source_rows)
    )


SEVERAL_JA = {
    "first": N_("最初の、空でない回答を使う"),
    "all": N_("全ての回答を、1つずつ別の行にする"),
}


def draw_speaker(choices: Choices, inspection: Inspection) -> None:
    """Of a log of people's chat: whose words are the answers."""
    if not inspection.speakers:
        return
    st.selectbox(
        _("AIの役にする話し手"),
        ["", *inspection.speakers],
        format_func=lambda name: name or _("（選ばない。発言を1つずつ文章として学ぶ）"),
        key=choices.key("assistant_speaker"),
        placeholder=_("選択"),
        help=_("人の会話の記録です。話し手を選ぶと、その人の発言を答えとする会話に組み立てます。"),
    )


def draw_columns(choices: Choices, inspection: Inspection) -> bool:
    """Question and answer first; the other roles folded. Whether every doubtful choice is confirmed."""
    chosen = {choice.role: choice for choice in inspection.mapping}
    main = [role for role in ROLE_JA if role in MAIN_ROLES or role in chosen]
    for start in range(0, len(main), 3):
        for role, cell in zip(main[start : start + 3], st.columns(3), strict=False):
            with cell:
                column = chosen[role].column if role in chosen else UNUSED
                _draw_role(choices, role, column, inspection.columns)
                st.caption(
                    plain(chosen[role].reason) if role in chosen else _("まだ決まっていません")
                )
    codes = {finding.code for finding in inspection.findings}
    if (
        codes & {"ANSWER_COLUMNS", "SEVERAL_ANSWERS"}
        or choices.value("several", "first") != "first"
    ):
        st.radio(
            _("1つの質問に回答がいくつもある行"),
            list(SEVERAL_JA),
            format_func=name_in(SEVERAL_JA),
            key=choices.key("several"),
        )
    doubtful = [choice for choice in inspection.mapping if choice.is_doubtful]
    confirmed = [
        st.checkbox(
            _("「{column}」は{role}の列で合っています").format(
                column=plain(choice.column), role=_(ROLE_JA[choice.role])
            ),
            key=choices.key(f"confirmed-{choice.role}-{choice.column}"),
        )
        for choice in doubtful
    ]
    with st.expander(_("ほかの役割（システム文、カテゴリなど）"), icon=":material/view_column:"):
        for role in ROLE_JA:
            if role not in main:
                _draw_role(choices, role, UNUSED, inspection.columns)
    if inspection.unmapped:
        st.caption(
            _("使わない列: {unmapped}").format(unmapped=plain(_("、").join(inspection.unmapped)))
        )
    return all(confirmed)


def _draw_role(choices: Choices, role: str, column: str, columns: Sequence[str]) -> None:
    options = [UNUSED, *columns]
    st.selectbox(
        _(ROLE_JA[role]),
        options,
        index=options.index(column),
        format_func=lambda name: name or _("（使わない）"),
        key=choices.key(f"role-{role}"),
        on_change=choices.set,
        args=(f"changed-{role}", True),
        placeholder=_("選択"),
    )
