"""対話: talk to what was trained, put all its questions to it, and bring it into Ollama."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui.chat import ollama, talking, testing
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.runs import choose_run
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.frame import studio

TALK, TEST, OLLAMA = "talk", "test", "ollama"
VIEWS = {TALK: _("話す"), TEST: _("まとめて試す"), OLLAMA: "Ollama"}

st.title(_("対話", "page"))
view = choose_view(VIEWS, TALK)
runs = studio().runs.trained()
left, right = st.columns(2) if view == TALK and runs else (st.container(), st.container())
with left:
    run_id = choose_run(runs).run_id if runs else ""
if view == OLLAMA:
    ollama.draw_ollama(run_id)
elif not run_id:
    empty_state(_("対話できるモデルがまだありません。先に学習してください。"), "training")
elif view == TEST:
    testing.draw_test(run_id)
else:
    talking.draw_talk(run_id, right)
