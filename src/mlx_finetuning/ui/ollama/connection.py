"""Whether Ollama can be used now, in plain words."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.errors import OllamaHostInvalid
from mlx_finetuning.ollama_integration import Status
from mlx_finetuning.ui.components.errors import described, show_error
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio


def draw_connection() -> bool:
    """Returns whether it can be used."""
    try:
        found = studio().ollama.status()
    except OllamaHostInvalid as error:
        show_error(error)
        return False
    _draw(found)
    return found.problem is None


def _draw(found: Status) -> None:
    if found.problem is None:
        version = plain(f"Ollama {found.version}（{found.place}）につながっています。")
        st.success(version, icon=":material/link:")
    else:
        message = described(found.problem)
        st.info(
            f"**{plain(message.what)}**　なくても、内蔵のランタイムで対話できます。",
            icon=":material/link_off:",
        )
        with st.expander("Ollamaを使うには", icon=":material/help:"):
            st.markdown(plain(f"{message.why}\n{message.next_step}".strip()))
    for warning in found.warnings:
        st.warning(plain(warning), icon=":material/warning:")
