"""The cleaning steps: each a switch, with what it changes before and after."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.clean import DEFAULT, STEPS
from mlx_finetuning.ui.dataset.choices import Choices


def draw_cleaning(choices: Choices, found: Inspection) -> None:
    done = {step.name: step for step in found.cleaning}
    for name, step in STEPS.items():
        key = choices.key(f"clean-{name}")
        st.session_state.setdefault(key, name in DEFAULT)
        result = done.get(name)
        count = f"　:gray[{result.rows:,}行が変わります]" if result and result.rows else ""
        st.checkbox(f"{step.description}{count}", key=key)
        if result and result.samples:
            with st.container(border=True):
                st.dataframe(
                    [_change(*sample) for sample in result.samples],
                    hide_index=True,
                    placeholder="—",
                )


def _change(row: int, before: str, after: str) -> dict[str, str]:
    return {"行": str(row), "前": visible(before), "後": visible(after)}


def visible(text: str) -> str:
    """Signs that cannot be seen, as escapes, so that a change shows."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)
