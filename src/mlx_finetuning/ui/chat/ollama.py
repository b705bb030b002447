"""Ollama as one place to talk: whether it is there, registering a run's model, the models in it."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.errors import OllamaHostInvalid
from mlx_finetuning.language import _
from mlx_finetuning.ui.chat import models, registering
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.errors import described, show_error
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio


def draw_ollama(run_id: str) -> None:
    """`run_id` is empty where nothing was trained yet."""
    can_connect = draw_connection()
    if not can_connect:
        st.caption(
            _("Ollamaにつながると、ここで学習したモデルを登録し、Ollamaにあるモデルを見られます。")
        )
        return
    st.subheader(_("登録"))
    if run_id:
        with errors_shown():
            registering.draw_registration(run_id)
    else:
        empty_state(_("登録できるモデルがまだありません。先に学習してください。"), "training")
    st.subheader(_("Ollamaにあるモデル"))
    models.draw_models()


def draw_connection() -> bool:
    """Whether Ollama can be used now, in plain words; returns it."""
    try:
        status = studio().ollama.status()
    except OllamaHostInvalid as error:
        show_error(error)
        return False
    if status.problem is None:
        version = plain(
            _("Ollama {version}（{place}）につながっています。").format(
                version=status.version, place=status.place
            )
        )
        st.success(version, icon=":material/link:")
    else:
        message = described(status.problem)
        st.info(
            _("**{what}**　なくても、「話す」で対話できます。").format(what=plain(message.what)),
            icon=":material/link_off:",
        )
        with st.expander(_("Ollamaを使うには"), icon=":material/help:"):
            st.markdown(plain(f"{message.why}\n{message.next_step}".strip()))
    for warning in status.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    return status.problem is None
