"""The certificate of a run: whether what was written is still what was trained."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.jobs.results import Certificate
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.utils.units import percent

LOOKS = {"good": st.success, "warning": st.warning, "bad": st.error}
"""By the level of a judgement."""


def draw_certificate(certificate: Certificate) -> None:
    """Draw a run's certificate."""
    show = LOOKS[certificate.level]
    show(plain(certificate.verdict), icon=":material/verified:")
    table = []
    for row in certificate.rows:
        cells = {
            _("動かし方"): row.label,
            _("質問"): f"{row.prompts:,}",
            _("質問のトークンの一致"): percent(row.prompt_ids_equal),
            _("次の語の一致"): "—" if row.top1 is None else percent(row.top1),
            _("答えの一致"): percent(row.answers_equal),
            _("自分で終えた答え"): percent(row.ended),
        }
        if row.reasoning_equal is not None:
            cells[_("考えた過程の一致")] = percent(row.reasoning_equal)
        table.append(cells)
    for problem in certificate.problems:
        st.warning(plain(problem), icon=":material/warning:")
    with st.expander(_("くわしい数字"), icon=":material/table_chart:"):
        show_table(table)
        for note in certificate.notes:
            st.caption(plain(note))
