"""Questions with the answers before and after training, side by side at every width."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.experiment_tracker.evaluation.results import MARKS_JA, UNSURE_JA, Answered

LEGEND = f"{'　'.join(f'{mark} {name}' for mark, name in MARKS_JA.items())}。{UNSURE_JA}"


def draw_answers(answers: Sequence[Answered]) -> None:
    """In the order that they come in."""
    sections = []
    for item in answers:
        before, after = (html.escape(text) or "（何も答えない）" for text in item.shown)
        sections.append(
            f'<section><p class="question">{item.mark}　{html.escape(item.question)}</p>'
            f"<small>{item.taught_ja}　正解: {html.escape(item.expected)}</small>"
            f'<div class="pair"><p><small>学習前</small>{before}</p>'
            f'<p class="after"><small>学習後</small>{after}</p></div></section>'
        )
    st.html(f'<div class="answers">{"".join(sections)}</div>')
