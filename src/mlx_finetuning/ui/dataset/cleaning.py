"""The cleaning steps: each a switch, with what it changes before and after."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.clean import DEFAULT, STEPS
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.choices import Choices


def draw_cleaning(choices: Choices, inspection: Inspection) -> None:
    """One switch per step, with samples of what it has changed; folded while nothing is changed."""
    applied = {step.name: step for step in inspection.cleaning}
    changes = any(step.rows for step in inspection.cleaning)
    told = _("変わる行があります") if changes else _("今の選び方で変わる行はありません")
    with st.expander(
        _("整え方を選ぶ（{told}）").format(told=told), icon=":material/cleaning:", expanded=changes
    ):
        for name, step in STEPS.items():
            key = choices.key(f"clean-{name}")
            st.session_state.setdefault(key, name in DEFAULT)
            result = applied.get(name)
            count = (
                _("　:gray[{rows:,}行が変わります]").format(rows=result.rows)
                if result and result.rows
                else ""
            )
            st.checkbox(f"{plain(_(step.description))}{count}", key=key)
            if result and result.samples:
                with st.container(border=True):
                    rows = [
                        {_("行"): str(row), _("前"): visible(before), _("後"): visible(after)}
                        for row, before, after in result.samples
                    ]
                    show_table(rows)


def visible(text: str) -> str:
    """Characters that cannot be seen, as escapes, so that a change shows."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
