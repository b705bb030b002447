"""このつづきから学習する: a finished run goes on as a new one, with more updates, other data or a lower rate."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.frame import errors_shown, studio


def draw_continuation(run: Run, *, is_next: bool) -> None:
    """What may be changed, and the button; nothing for runs that cannot be continued. is_next: what
    the run's outcome asks for."""
    if run.engine != "mlx" or not studio().runs.is_trained(run):
        return
    kind: Literal["primary", "secondary"] = "primary" if is_next else "secondary"
    with st.popover(_("このつづきから学習する"), icon=":material/resume:", type=kind):
        st.markdown(
            _(
                "学習した重みとオプティマイザーの状態を引き継ぎ、新しい実験として続けます。"
                "元の実験はそのまま残り、報告書が前後を比べます。モデルとアダプターの形は変えられません。"
            )
        )
        before = studio().training.settings_of(run.run_id)
        names = [entry.name for entry in studio().data.list() if entry.manifest is not None]
        dataset = st.selectbox(
            _("データセット"),
            names,
            index=names.index(run.dataset) if run.dataset in names else None,
            key=f"continue-dataset-{run.run_id}",
            placeholder=_("選択"),
        )
        updates = st.number_input(
            _("あと何回更新するか"),
            min_value=1,
            value=max(before.iterations, 1),
            key=f"continue-iterations-{run.run_id}",
        )
        rate = st.number_input(
            _("学習率の最大値"),
            min_value=0.0,
            value=before.learning_rate,
            format="%g",
            step=before.learning_rate / 10 or 1e-5,
            key=f"continue-rate-{run.run_id}",
        )
        if st.button(_("続きを始める"), type="primary", key=f"continue-{run.run_id}"):
            with errors_shown():
                changes = {
                    "dataset": dataset or run.dataset,
                    "iterations": updates,
                    "epochs": 0,
                    "learning_rate": rate,
                }
                started = studio().training.continue_run(run.run_id, changes)
                st.switch_page(sitemap.page("training"), query_params={PARAMETER: started})
