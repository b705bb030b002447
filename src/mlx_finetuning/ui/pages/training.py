"""学習: start a run, and watch one."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.runs import PARAMETER, choose_run
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.training import live, setup

NEW, WATCH = "新しい学習", "様子を見る"
VIEW = "view"


def draw_new() -> None:
    settings = setup.draw_choice()
    if settings is None:
        return
    if st.button("学習を開始", type="primary", icon=":material/play_arrow:"):
        with errors_shown():
            run_id = studio().start_training(settings)
            st.switch_page(sitemap.page("training"), query_params={VIEW: WATCH, PARAMETER: run_id})
    busy = len(studio().living_jobs())
    if busy:
        st.caption(f"今、{busy}件の作業が動いています。始めた学習は、順番が来るまで待ちます。")


def draw_watch() -> None:
    runs = studio().runs()
    if not runs:
        empty_state("まだ学習を始めていません。「新しい学習」から始めてください。")
        return
    live.draw_run(choose_run(runs).run_id)


st.title("学習")
view = st.segmented_control(
    "表示",
    [NEW, WATCH],
    default=WATCH if PARAMETER in st.query_params else NEW,
    key=VIEW,
    bind="query-params",
    required=True,
    label_visibility="collapsed",
)
if view == WATCH:
    draw_watch()
else:
    draw_new()
