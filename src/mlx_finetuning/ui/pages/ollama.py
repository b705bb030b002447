"""Ollama: talk to what was trained, and bring it into Ollama."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.errors import OllamaHostInvalid
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.errors import described, show_error
from mlx_finetuning.ui.components.runs import choose_run
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.components.views import choose_view
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.ui.ollama import models, registering, talking

TALK, REGISTER, MODELS = "talk", "register", "models"
VIEWS = {TALK: "対話", REGISTER: "登録", MODELS: "モデルの一覧"}


def draw_connection() -> bool:
    """Whether Ollama can be used now, in plain words; returns it."""
    try:
        status = studio().ollama.status()
    except OllamaHostInvalid as error:
        show_error(error)
        return False
    if status.problem is None:
        version = plain(f"Ollama {status.version}（{status.place}）につながっています。")
        st.success(version, icon=":material/link:")
    else:
        message = described(status.problem)
        st.info(
            f"**{plain(message.what)}**　なくても、内蔵のランタイムで対話できます。",
            icon=":material/link_off:",
        )
        with st.expander("Ollamaを使うには", icon=":material/help:"):
            st.markdown(plain(f"{message.why}\n{message.next_step}".strip()))
    for warning in status.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    return status.problem is None


st.title("Ollama")
view = choose_view(VIEWS, TALK)
can_connect = draw_connection()
if view == MODELS:
    if can_connect:
        models.draw_models()
elif runs := studio().runs.trained():
    run_id = choose_run(runs).run_id
    if view == REGISTER:
        registering.draw_registration(run_id, can_connect)
    else:
        talking.draw_talk(run_id, can_connect)
else:
    empty_state("対話できるモデルがまだありません。先に学習してください。", "training")
