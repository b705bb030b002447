"""Pairs made from documents, with the sentence each rests on and what checking found: to be taken or
left out. Texts are changed where those of every dataset are."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.documents.pairs import KINDS_JA, Pair
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import datasets, views
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.frame import studio

SHOWN = {"all": N_("全て"), "sound": N_("気になる所のない組"), "found": N_("気になる組")}
EDIT_VIEW = "edit"


def draw_pairs() -> None:
    """The pairs made under a name, and the making of a dataset of those that are taken."""
    names = studio().documents.list()
    if not names:
        empty_state(_("文書から作った質問と回答は、まだありません。"))
        return
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    name = str(left.selectbox(_("名前"), names, index=datasets.first_choice(names)))
    pairs = studio().documents.pairs(name)
    if not pairs:
        empty_state(_("まだ1組もできていません。"))
        return
    shown = right.segmented_control(
        _("表示する組"), list(SHOWN), format_func=name_in(SHOWN), default="all", required=True
    )
    sound = sum(pair.is_sound for pair in pairs)
    st.caption(
        _(
            "{pairs_count}組のうち、気になる所がないのは{sound}組です。気になる組も、「使う」に印を付ければ学習に使えます。"
        ).format(pairs_count=len(pairs), sound=sound)
    )
    used = studio().documents.used(name)
    rows = [
        row
        for row, pair in enumerate(pairs, 1)
        if shown == "all" or pair.is_sound == (shown == "sound")
    ]
    chosen = _draw_table(name, pairs, rows, used)
    with st.container(horizontal=True, vertical_alignment="center"):
        label = _("選んだ{chosen_count}組でデータセットを作る").format(chosen_count=len(chosen))
        if st.button(label, type="primary", icon=":material/save:", disabled=not chosen):
            with st.spinner(_("データセットを作っています…")):
                studio().documents.use(name, chosen)
            st.rerun()
        if studio().workspace.dataset(name).manifest.is_file():
            st.page_link(
                sitemap.page("dataset"),
                label=_("質問と回答の文を直す"),
                icon=":material/edit:",
                query_params={views.PARAMETER: EDIT_VIEW, datasets.PARAMETER: name},
            )


def _draw_table(name: str, pairs: list[Pair], rows: list[int], used: set[int]) -> set[int]:
    """The rows that are taken; those that are not shown stay as they are."""
    import pandas as pd

    cells = [
        {
            _("使う"): row in used,
            _("確かめた結果"): _("、").join(one.text_ja for one in pairs[row - 1].problems)
            or _("問題なし"),
            _("質問"): pairs[row - 1].question,
            _("回答"): pairs[row - 1].answer,
            _("根拠の文"): pairs[row - 1].quote,
            _("種類"): _(KINDS_JA[pairs[row - 1].kind]),
            _("資料"): pairs[row - 1].document,
            _("ページ"): str(pairs[row - 1].page or ""),
        }
        for row in rows
    ]
    frame = pd.DataFrame(cells, index=pd.Index(rows, name=_("行")))
    edited = st.data_editor(
        frame,
        key=f"pairs-{name}-{len(pairs)}-{len(rows)}",
        disabled=["_index", *(column for column in frame.columns if column != _("使う"))],
    )
    taken = {int(row) for row, is_used in edited[_("使う")].items() if is_used} if rows else set()
    return (used - set(rows)) | taken
