"""Marks on answers, right answers in their place, and the training that follows from them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.records.marks import Marks
from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio


def marks_of(run_id: str) -> Marks:
    """What was said of the run's answers; none, with the reason, where that cannot be read."""
    try:
        return studio().marks.read(run_id)
    except StudioError as error:
        show_error(error)
        return Marks()


def draw_marks(
    run_id: str, marks: Marks, prompt: Sequence[str], answer: str, key: str, expected: str = ""
) -> None:
    """What was said of an answer, and the buttons to say it; `expected` is what the data have."""
    mark = marks.of(prompt, answer)
    with st.container(horizontal=True, vertical_alignment="center"):
        for good, label in ((True, _("○ 合っている")), (False, _("× まちがい"))):
            is_said = mark is not None and mark.good is good
            # By its name the style sheet knows what was said.
            if st.button(label, key=f"{'said' if is_said else 'mark'}-{good}-{key}"):
                with errors_shown():
                    studio().marks.mark(run_id, prompt, answer, None if is_said else good)
                    st.rerun()
        with st.popover(_("直す"), icon=":material/edit:"):
            shown = (mark.correction if mark else "") or expected or answer
            right = st.text_area(
                _("正しい答え"), shown, key=f"right-{key}", placeholder=_("正しい答え")
            )
            if st.button(_("この答えに直す"), type="primary", key=f"correct-{key}"):
                with errors_shown():
                    studio().marks.correct(run_id, prompt, answer, right)
                    st.rerun()
    if mark is not None and mark.correction:
        st.markdown(
            _(":green[:material/edit:]　**直した答え**　{correction}").format(
                correction=plain(mark.correction)
            )
        )


def draw_next(run_id: str, marks: Marks) -> None:
    """How much was marked, and what can be made of it; nothing where nothing was."""
    if not marks.steps:
        return
    current, corrected = list(marks.current.values()), len(marks.corrections)
    good = sum(bool(mark.good) for mark in current)
    with st.container(border=True):
        st.markdown(
            _("○ {good}件　× {current_count}件　直した答え {corrected}件").format(
                good=good, current_count=len(current) - good, corrected=corrected
            )
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            tip = _(
                "直した答えを足した新しいデータセットを作り、同じ設定で、はじめから学習します。"
            )
            if st.button(
                _("直した答えでもう一度学習する"),
                type="primary",
                icon=":material/model_training:",
                help=tip,
                disabled=not corrected,
                key="retrain",
            ):
                with errors_shown(), st.spinner(_("新しいデータセットを作っています…")):
                    again = studio().marks.retrain(run_id)
                    query = {views.PARAMETER: "watch", PARAMETER: again}
                    st.switch_page(sitemap.page("training"), query_params=query)
            if st.button(_("1つ前に戻す"), icon=":material/undo:", key="undo-mark"):
                studio().marks.undo(run_id)
                st.rerun()
            st.download_button(
                _("データとして書き出す"),
                lambda: studio().marks.as_kto(run_id),
                file_name=f"{run_id}-kto.jsonl",
                mime="application/jsonl",
                icon=":material/download:",
                help=_(
                    "○と×の付いた答えを、よい答えとよくない答えの例（KTO形式）として保存します。"
                ),
                on_click="ignore",
            )
