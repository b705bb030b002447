"""実験: all runs, one of them, several side by side, and those that were deleted."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.runs import PARAMETER, choose_run
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.experiments import comparing, detail, listing, trash
from mlx_finetuning.ui.frame import studio

LIST, DETAIL, COMPARE, TRASH = "list", "detail", "compare", "trash"
VIEWS = {LIST: "一覧", DETAIL: "詳細", COMPARE: "比べる", TRASH: "ゴミ箱"}


def draw_runs(view: str) -> None:
    runs = studio().runs.list()
    if not runs:
        empty_state("まだ実験がありません。学習を始めると、ここに残ります。", "training")
    elif view == LIST:
        listing.draw_list(runs, DETAIL, COMPARE)
    elif view == COMPARE:
        comparing.draw_comparison(runs)
    else:
        detail.draw_run(choose_run(runs), TRASH)


st.title("実験")
view = choose_view(VIEWS, DETAIL if PARAMETER in st.query_params else LIST)
if view == TRASH:
    trash.draw_trash(DETAIL)
else:
    draw_runs(view)
