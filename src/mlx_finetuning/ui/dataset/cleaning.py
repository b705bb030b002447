"""The cleaning steps: each a switch, with what it changes before and after."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.clean import DEFAULT, STEPS
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.choices import Choices


def draw_cleaning(choices: Choices, inspection: Inspection) -> None:
    """One switch per step, with samples of what it has changed; folded while nothing is changed."""
    applied = {step.name: step for step in inspection.cleaning}
    changes = any(step.rows for step in inspection.cleaning)
    told = "変わる行があります" if changes else "今の選び方で変わる行はありません"
    with st.expander(f"整え方を選ぶ（{told}）", icon=":material/cleaning:", expanded=changes):
        for name, step in STEPS.items():
            key = choices.key(f"clean-{name}")
            st.session_state.setdefault(key, name in DEFAULT)
            result = applied.get(name)
            count = f"　:gray[{result.rows:,}行が変わります]" if result and result.rows else ""
            st.checkbox(f"{plain(step.description)}{count}", key=key)
            if result and result.samples:
                with st.container(border=True):
                    rows = [
                        {"行": str(row), "前": visible(before), "後": visible(after)}
                        for row, before, after in result.samples
                    ]
                    show_table(rows)


def visible(text: str) -> str:
    """Characters that cannot be seen, as escapes, so that a change shows."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
