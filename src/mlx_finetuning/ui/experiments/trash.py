"""Deleted runs, and the way back."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units_ja import local_time


def draw_trash(detail: str) -> None:
    """`detail` is the view that a restored run is shown in."""
    deleted = studio().runs.deleted()
    if not deleted:
        empty_state("ゴミ箱は空です。")
        return
    st.caption("空にするには、「設定」の「使用量と片付け」を使ってください。")
    for one in deleted:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            told = f"**{plain(one.model or '—')}** ← {plain(one.dataset or '—')}"
            when = local_time(one.deleted_at)
            st.markdown(f"{told}　{plain(one.run_id)}　:gray[{when} に削除]")
            if st.button("元に戻す", icon=":material/undo:", key=f"restore-{one.run_id}"):
                with errors_shown():
                    studio().runs.restore(one.run_id)
                    there = {views.PARAMETER: detail, PARAMETER: one.run_id}
                    st.switch_page(sitemap.page("experiments"), query_params=there)
