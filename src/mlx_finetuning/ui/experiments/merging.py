"""Merging the adapters of several chosen runs, or one at another strength, into a run of their own."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.config import HIGHEST_STRENGTH, MergeConfig
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.frame import errors_shown, studio

METHODS_JA = {
    "linear": "平均（正確）",
    "ties": "TIES（向きの多数決）",
    "dare": "DARE（間引いて強める）",
}


def draw_merge(run_ids: Sequence[str]) -> None:
    """A button behind which the way is chosen; the new run is shown then."""
    one = len(run_ids) == 1
    label = "強さを変えた実験を作る" if one else f"{len(run_ids)}件のアダプターを合わせる"
    key = "merge-" + "-".join(run_ids)
    with st.popover(label, icon=":material/merge:"):
        st.markdown(
            "学習はせずに、新しい実験を1つ作ります。ほかの実験と同じように、調べたり、話したり、書き出したりできます。"
        )
        method = "linear"
        if not one:
            chosen = st.segmented_control(
                "合わせ方",
                list(METHODS_JA),
                format_func=METHODS_JA.__getitem__,
                default=method,
                required=True,
                key=f"{key}-method",
            )
            method = str(chosen)
        strength = st.slider(
            "学習の強さ", 0.0, HIGHEST_STRENGTH, 0.7 if one else 1.0, 0.05, key=f"{key}-strength"
        )
        if st.button("作る", type="primary", key=key):
            with errors_shown():
                settings = MergeConfig(method=method, strength=strength)
                made = studio().merging.start(run_ids, settings)
                st.switch_page(sitemap.page("experiments"), query_params={PARAMETER: made})
