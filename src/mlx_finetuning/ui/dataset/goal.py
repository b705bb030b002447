"""What the model is for: the first question about a file, answered by a guess that can be changed."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.config import GOALS
from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.utils.goals import AIMS_JA, GOALS_JA


def draw_goal(choices: Choices, inspection: Inspection) -> None:
    """The goals by name, the guess first, and what the present one means for this file."""
    st.selectbox(
        _("何のために学習しますか"),
        ("auto", *GOALS),
        format_func=lambda goal: _(GOALS_JA.get(goal, N_("データに合わせる（推定）"))),
        key=choices.key("goal"),
        placeholder=_("選択"),
        help=_(
            "分け方、学習の量、確かめ方と、結果の伝え方が決まります。どれも、あとで変えられます。"
        ),
    )
    st.markdown(f"**{_(GOALS_JA[inspection.goal])}**　:gray[{inspection.goal_reason}]")
    st.caption(_(AIMS_JA[inspection.goal]))
    if inspection.goal == "faq" and not inspection.reworded_facts:
        st.info(
            _(
                "同じ答えの、別の聞き方がありません。全ての行を教えますが、聞き方を変えても答えられるかは、"
                "機械的に作った言い換えでしか測れません。同じ答えの行を、聞き方を変えて足すと測れます。"
            ),
            icon=":material/forum:",
        )
