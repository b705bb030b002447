"""Deleting a dataset, and the way back."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.datasets import PARAMETER
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units_ja import local_time


def draw_deletion(name: str, trash: str) -> None:
    """`trash` is the view that a deleted dataset is found in."""
    with st.popover("ゴミ箱に移す", icon=":material/delete:"):
        st.markdown(f"**{name}** を移します。あとで元に戻せます。学習の結果は残ります。")
        if st.button("移す", type="primary", key=f"delete-{name}"):
            with errors_shown():
                studio().data.delete(name)
                page = sitemap.page("dataset")
                st.switch_page(page, query_params={views.PARAMETER: trash})


def draw_trash(shown_in: str) -> None:
    """`shown_in` is the view that a restored dataset is shown in."""
    deleted = studio().data.deleted()
    if not deleted:
        empty_state("ゴミ箱は空です。")
        return
    st.caption("空にするには、「設定」の「使用量と片付け」を使ってください。")
    for one in deleted:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{one.name}**　:gray[{local_time(one.deleted_at)} に削除]")
            key = f"restore-{one.name}-{one.deleted_at}"
            if st.button("元に戻す", icon=":material/undo:", key=key):
                with errors_shown():
                    studio().data.restore(one.name, one.deleted_at)
                    there = {views.PARAMETER: shown_in, PARAMETER: one.name}
                    st.switch_page(sitemap.page("dataset"), query_params=there)
