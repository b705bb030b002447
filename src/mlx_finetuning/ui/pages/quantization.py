"""量子化: one file that can be handed on, and the proof that it is what was trained."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.later_jobs import draw_latest, latest
from mlx_finetuning.ui.components.runs import choose_run
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.quantization import choice, made

KINDS = ("export", "verify", "certify")


def draw_run(run_id: str) -> None:
    at_work = draw_latest(run_id, KINDS)
    st.header("新しく作る")
    with errors_shown():
        choice.draw_choice(run_id, at_work)
        draw_advice(run_id)
    st.header("作ったもの")
    models = studio().exports.list(run_id)
    if not models:
        empty_state("まだ何も作っていません。種類を選んで「量子化する」を押してください。")
        return
    made.draw_made(run_id, models, at_work)
    st.header("学習の証明")
    with errors_shown():
        made.draw_proof(run_id, at_work)


def draw_advice(run_id: str) -> None:
    """Where the last export was a measurement."""
    job = latest(run_id, ("export",))
    if job is None or job.status.state != "done":
        return
    if studio().jobs.settings(run_id, job.name).get("advise"):
        choice.draw_advice(studio().jobs.result(run_id, job.name))


st.title("量子化")
runs = studio().runs.trained()
if runs:
    draw_run(choose_run(runs).run_id)
else:
    empty_state("軽くできる学習の結果がまだありません。先に学習してください。", "training")
