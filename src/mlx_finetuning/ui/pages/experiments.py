"""実験: all runs, one of them, several side by side, and those that were deleted."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.empty import empty_state, shown_trash
from mlx_finetuning.ui.components.runs import PARAMETER, choose_run
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.experiments import comparing, detail, importing, listing
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units import local_time

LIST, DETAIL, COMPARE, TRASH = "list", "detail", "compare", "trash"
VIEWS = {LIST: _("一覧"), DETAIL: _("詳細"), COMPARE: _("比べる"), TRASH: _("ゴミ箱")}


def draw_trash() -> None:
    """Deleted runs, and the way back."""
    for one in shown_trash(studio().runs.deleted()):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            title = f"**{plain(one.model or '—')}** ← {plain(one.dataset or '—')}"
            deleted_at = local_time(one.deleted_at)
            st.markdown(
                _("{title}　{run_id}　:gray[{deleted_at} に削除]").format(
                    title=title, run_id=plain(one.run_id), deleted_at=deleted_at
                )
            )
            if st.button(_("元に戻す"), icon=":material/undo:", key=f"restore-{one.run_id}"):
                with errors_shown():
                    studio().runs.restore(one.run_id)
                    query = {views.PARAMETER: DETAIL, PARAMETER: one.run_id}
                    st.switch_page(sitemap.page("experiments"), query_params=query)


st.title(_("実験", "page"))
view = choose_view(VIEWS, DETAIL if PARAMETER in st.query_params else LIST)
if view == TRASH:
    draw_trash()
elif not (runs := studio().runs.list()):
    empty_state(_("まだ実験がありません。学習を始めると、ここに残ります。"), "training")
    importing.draw_import()
elif view == LIST:
    listing.draw_list(runs, DETAIL, COMPARE)
    importing.draw_import()
elif view == COMPARE:
    comparing.draw_comparison(runs)
else:
    detail.draw_run(choose_run(runs), TRASH)
