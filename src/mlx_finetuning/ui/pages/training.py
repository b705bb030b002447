"""学習: start a run, watch one, and fetch the models to start from."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.runs import PARAMETER, choose_run
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.training import live, models, setup

NEW, WATCH, MODELS = "new", "watch", "models"
VIEWS = {NEW: _("新しい学習"), WATCH: _("様子を見る"), MODELS: _("モデル", "several")}


def draw_new() -> None:
    """What to train and how, what it would take, and the start."""
    settings = setup.draw_choice(MODELS)
    if settings is None:
        return
    setup.draw_estimate(settings)
    if st.button(_("学習を開始"), type="primary", icon=":material/play_arrow:"):
        with errors_shown():
            run_id = studio().training.start(settings)
            st.switch_page(
                sitemap.page("training"), query_params={views.PARAMETER: WATCH, PARAMETER: run_id}
            )
    if studio().jobs.is_device_busy():
        st.caption(_("今、ほかの作業が動いています。始めた学習は、順番が来るまで待ちます。"))


st.title(_("学習", "page"))
view = choose_view(VIEWS, WATCH if PARAMETER in st.query_params else NEW)
if view == NEW:
    draw_new()
elif view == MODELS:
    models.draw_models()
elif runs := studio().runs.list():
    live.draw_run(choose_run(runs).run_id)
else:
    empty_state(_("まだ学習を始めていません。「新しい学習」から始めてください。"))
