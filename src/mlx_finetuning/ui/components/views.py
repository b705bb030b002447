"""The choice between the views of a page, kept in the address."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from mlx_finetuning.language import _

PARAMETER = "view"


def choose_view(views: Mapping[str, str], default: str) -> str:
    """The key of the chosen view; `views` are keys of the address with their labels."""
    asked = st.query_params.get(PARAMETER, default)
    shown = asked if asked in views else default
    chosen = st.segmented_control(
        _("表示"),
        list(views),
        format_func=views.__getitem__,
        default=shown,
        # A link to another view has to win over what was clicked before.
        key=f"{PARAMETER}-{shown}",
        required=True,
        label_visibility="collapsed",
    )
    if chosen != shown:
        st.query_params[PARAMETER] = str(chosen)
        st.rerun()
    return shown
