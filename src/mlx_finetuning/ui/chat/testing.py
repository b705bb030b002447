"""All questions of the dataset put to the tuned model, with ○ and ×, each to be marked and put right."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.experiment_tracker.evaluation.batch_test import (
    MEANINGS_JA,
    BatchAnswer,
    counted,
)
from mlx_finetuning.experiment_tracker.evaluation.results import MARKS
from mlx_finetuning.ui.chat import marking
from mlx_finetuning.ui.components.jobs import draw_latest
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio

A_PAGE = 10
ALL = "全て"
CHOICES = (ALL, *MARKS)


def draw_test(run_id: str) -> None:
    """The button, how far the test is, and what was answered."""
    st.caption(
        "データセットの全ての質問を、学習したモデルに聞きます。"
        "○は一字一句同じ、△は要点が合う、？は言い方が違うので見て確かめる、×はまちがいです。"
    )
    at_work = draw_latest(run_id, ("batch_test",))
    answers = studio().evaluation.answers(run_id)
    if st.button(
        "もう一度、全ての質問を試す" if answers else "全ての質問を試す",
        type="secondary" if answers else "primary",
        icon=":material/checklist:",
        disabled=at_work,
        key="batch-test",
    ):
        with errors_shown():
            studio().evaluation.batch_test(run_id)
            st.rerun()
    if answers:
        _draw_answers(run_id, answers)


def _draw_answers(run_id: str, answers: Sequence[BatchAnswer]) -> None:
    st.markdown(f"**{plain(counted(answers).line)}**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.segmented_control(
            "判定", CHOICES, default=ALL, required=True, key="batch-filter"
        )
        taught = st.segmented_control(
            "教えたか",
            (ALL, "教えた", "教えていない"),
            default=ALL,
            required=True,
            key="batch-taught",
        )
    shown = [
        one
        for one in answers
        if wanted in (ALL, one.mark)
        and (taught == ALL or (one.split == "train") == (taught == "教えた"))
    ]
    marks = marking.marks_of(run_id)
    marking.draw_next(run_id, marks)
    pages = -(-len(shown) // A_PAGE)
    page = st.pagination(pages, key=f"batch-page-{wanted}-{taught}") if pages > 1 else 1
    for one in shown[(page - 1) * A_PAGE : page * A_PAGE]:
        with st.container(border=True):
            row = f"　{one.row}行目" if one.row else ""
            st.markdown(f"**{one.mark} {MEANINGS_JA[one.rightness]}**　:gray[{one.taught_ja}{row}]")
            st.markdown(f"**質問**　{plain(one.prompt[-1])}")
            st.markdown(f"**答え**　{plain(one.answer) or '（なし）'}")
            if one.rightness != "exact":
                st.markdown(f"**正解**　{plain(one.expected)}")
            key = f"{one.split}-{one.row}-{hash(one.prompt)}"
            marking.draw_marks(run_id, marks, one.prompt, one.answer, key, one.expected)
    if not shown:
        st.caption("当てはまる質問はありません。")
