"""Questions with the answers before and after training, side by side at every width."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.experiment_tracker.evaluation.results import MARKS_JA, UNSURE_JA, Answered
from mlx_finetuning.language import _


def legend() -> str:
    """What the marks mean."""
    marks = "　".join(f"{mark} {_(name)}" for mark, name in MARKS_JA.items())
    return _("{marks}。{unsure}").format(marks=marks, unsure=_(UNSURE_JA))


def draw_answers(answers: Sequence[Answered]) -> None:
    """In the order that they come in."""
    sections = []
    for item in answers:
        before, after = (html.escape(text) or _("（何も答えない）") for text in item.shown)
        sections.append(
            _(
                '<section><p class="question">{mark}　{question}</p><small>{taught}　正解: {expected}</small><div class="pair"><p><small>学習前</small>{before}</p><p class="after"><small>学習後</small>{after}</p></div></section>'
            ).format(
                mark=item.mark,
                question=html.escape(item.question),
                taught=_(item.taught_ja),
                expected=html.escape(item.expected),
                before=before,
                after=after,
            )
        )
    st.html(f'<div class="answers">{"".join(sections)}</div>')
