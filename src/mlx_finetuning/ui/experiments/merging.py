"""Merging the adapters of several chosen runs, or one at another strength, into a run of their own."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.config import HIGHEST_STRENGTH, MergeConfig
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.frame import errors_shown, studio

METHODS_JA = {
    "linear": N_("平均（正確）"),
    "ties": N_("TIES（向きの多数決）"),
    "dare": N_("DARE（間引いて強める）"),
}


def draw_merge(run_ids: Sequence[str]) -> None:
    """A button behind which the way is chosen; the new run is shown then."""
    one = len(run_ids) == 1
    label = (
        _("強さを変えた実験を作る")
        if one
        else _("{run_ids_count}件のアダプターを合わせる").format(run_ids_count=len(run_ids))
    )
    key = "merge-" + "-".join(run_ids)
    with st.popover(label, icon=":material/merge:"):
        st.markdown(
            _(
                "学習はせずに、新しい実験を1つ作ります。ほかの実験と同じように、調べたり、話したり、書き出したりできます。"
            )
        )
        method = "linear"
        if not one:
            chosen = st.segmented_control(
                _("合わせ方"),
                list(METHODS_JA),
                format_func=name_in(METHODS_JA),
                default=method,
                required=True,
                key=f"{key}-method",
            )
            method = str(chosen)
        strength = st.slider(
            _("学習の強さ"), 0.0, HIGHEST_STRENGTH, 0.7 if one else 1.0, 0.05, key=f"{key}-strength"
        )
        if st.button(_("作る"), type="primary", key=key):
            with errors_shown():
                settings = MergeConfig(method=method, strength=strength)
                made = studio().merging.start(run_ids, settings)
                st.switch_page(sitemap.page("experiments"), query_params={PARAMETER: made})
