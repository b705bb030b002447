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
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui.chat import marking
from mlx_finetuning.ui.components.jobs import draw_latest
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio

A_PAGE = 10
ALL = "all"
TAUGHT_JA = {ALL: N_("全て"), "taught": N_("教えた"), "untaught": N_("教えていない")}


def draw_test(run_id: str) -> None:
    """The button, how far the test is, and what was answered."""
    st.caption(
        _(
            "データセットの全ての質問を、学習したモデルに聞きます。"
            "○は一字一句同じ、△は要点が合う、？は言い方が違うので見て確かめる、×はまちがいです。"
        )
    )
    at_work = draw_latest(run_id, ("batch_test",))
    answers = studio().evaluation.answers(run_id)
    if st.button(
        _("もう一度、全ての質問を試す") if answers else _("全ての質問を試す"),
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
    if any(one.split == "valid" for one in answers):
        st.caption(
            _(
                "「実験」の結果は、教えていない質問のうち、学習の途中で使った分（検証）を除いて数えます。"
            )
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.segmented_control(
            _("判定"),
            (ALL, *MARKS),
            format_func=lambda mark: _("全て") if mark == ALL else mark,
            default=ALL,
            required=True,
            key="batch-filter",
        )
        taught = st.segmented_control(
            _("教えたか"),
            list(TAUGHT_JA),
            format_func=name_in(TAUGHT_JA),
            default=ALL,
            required=True,
            key="batch-taught",
        )
    shown = [
        one
        for one in answers
        if wanted in (ALL, one.mark)
        and (taught == ALL or (one.split == "train") == (taught == "taught"))
    ]
    marks = marking.marks_of(run_id)
    marking.draw_next(run_id, marks)
    pages = -(-len(shown) // A_PAGE)
    page = st.pagination(pages, key=f"batch-page-{wanted}-{taught}") if pages > 1 else 1
    for one in shown[(page - 1) * A_PAGE : page * A_PAGE]:
        with st.container(border=True):
            row = _("　{row}行目").format(row=one.row) if one.row else ""
            st.markdown(
                f"**{one.mark} {_(MEANINGS_JA[one.rightness])}**　:gray[{_(one.taught_ja)}{row}]"
            )
            st.markdown(_("**質問**　{prompt}").format(prompt=plain(one.prompt[-1])))
            st.markdown(_("**答え**　{answer}").format(answer=plain(one.answer) or _("（なし）")))
            if one.rightness != "exact":
                st.markdown(_("**正解**　{expected}").format(expected=plain(one.expected)))
            key = f"{one.split}-{one.row}-{hash(one.prompt)}"
            marking.draw_marks(run_id, marks, one.prompt, one.answer, key, one.expected)
    if not shown:
        st.caption(_("当てはまる質問はありません。"))
