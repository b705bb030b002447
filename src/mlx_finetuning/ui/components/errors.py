"""One look for every error: what happened, why, what to do next, code, details folded."""

from __future__ import annotations

import json
from dataclasses import replace

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.messages_ja import ErrorText, describe
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.messages_ja import NEXT_STEPS_JA


def described(error: StudioError) -> ErrorText:
    """The error's wording, with a next step that is on these pages."""
    message = describe(error)
    return replace(message, next_step=NEXT_STEPS_JA.get(error.code, message.next_step))


def show_error(error: StudioError, detail: str = "") -> None:
    """Draw `error`; `detail` (a traceback, the end of a log) is folded away with its data."""
    message = described(error)
    with st.container(border=True, gap="small"):
        st.error(f"**何が起きたか**　{plain(message.what)}", icon=":material/error:")
        if message.why:
            st.markdown(f"**原因**　{plain(message.why)}")
        if message.next_step:
            st.markdown(f"**次にすること**　{plain(message.next_step)}")
        with st.expander(f"技術的な詳細（コード: {error.code}）", icon=":material/code:"):
            data = json.dumps(error.data, ensure_ascii=False, indent=2, default=str)
            technical = f"{error.code}\n{data}" + (f"\n{detail}" if detail else "")
            st.code(technical, language=None, wrap_lines=True)
