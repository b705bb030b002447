"""軽くする: one file that can be handed on, and the proof that it is what was trained."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.quantizer.verify.results import Exported
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.jobs import draw_latest, latest
from mlx_finetuning.ui.components.runs import choose_run
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.quantization import choice, written

KINDS = ("export", "verify", "certify")


def draw_run(run_id: str) -> None:
    """What was written from the run, with its proof, and what else to write."""
    at_work = draw_latest(run_id, KINDS)
    models = studio().exports.list(run_id)
    if models:
        st.header(_("作ったもの"))
        written.draw_written(run_id, models, at_work)
        st.header(_("学習の証明"))
        with errors_shown():
            written.draw_proof(run_id, at_work)
    st.header(_("新しく作る"))
    with errors_shown():
        choice.draw_choice(run_id, at_work)
        job = latest(run_id, ("export",))
        if job and job.status.state == "done":
            result = studio().jobs.result(run_id, job.name, Exported)
            if result.candidates:  # the last export was a measurement
                choice.draw_advice(result)


st.title(_("軽くする", "page"))
st.caption(
    _(
        "学習したモデルを、ほかのアプリでも使える1つの軽いファイルにします。"
        "迷ったら、そのまま「軽くする」を押してください。"
    )
)
runs = studio().runs.trained()
if runs:
    draw_run(choose_run(runs).run_id)
else:
    empty_state(_("軽くできる学習の結果がまだありません。先に学習してください。"), "training")
