"""Ollama: talk to what was trained, and bring it into Ollama."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.runs import choose_run
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.ui.ollama import connection, models, registering, talking

TALK, REGISTER, MODELS = "talk", "register", "models"
VIEWS = {TALK: "対話", REGISTER: "登録", MODELS: "モデルの一覧"}


def draw_runs(view: str, can_connect: bool) -> None:
    runs = studio().runs.trained()
    if not runs:
        empty_state("対話できるモデルがまだありません。先に学習してください。", "training")
        return
    run_id = choose_run(runs).run_id
    if view == REGISTER:
        registering.draw_registration(run_id, can_connect)
    else:
        talking.draw_talk(run_id, can_connect)


st.title("Ollama")
view = choose_view(VIEWS, TALK)
can_connect = connection.draw_connection()
if view != MODELS:
    draw_runs(view, can_connect)
elif can_connect:
    models.draw_models()
