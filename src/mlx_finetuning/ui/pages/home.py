"""ホーム: what works now, the next step, the latest runs, and whether the machine is ready."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.doctor import Item, Report
from mlx_finetuning.jobs.queue import LivingJob
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.studio import Studio
from mlx_finetuning.ui import sample, sitemap
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.jobs import POLL_S, progress_bar
from mlx_finetuning.ui.components.run_table import run_table
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.states import state_badge
from mlx_finetuning.ui.components.steps import Step, draw_steps
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.messages_ja import JOBS_JA

RECENT = 5
MARKS = {
    "ok": ":green[:material/check_circle:]",
    "warn": ":orange[:material/warning:]",
    "missing": ":red[:material/cancel:]",
}
OPTIONAL = ":gray[:material/do_not_disturb_on:]"


def steps(app: Studio, runs: list[Run]) -> list[Step]:
    trained = [run for run in runs if run.status.state == "done" and not run.simulated]
    written = any(any(app.workspace.gguf_folder(run.run_id).glob("*.gguf")) for run in trained)
    talked = any(app.chat.list(run.run_id) for run in trained)
    return [
        Step("dataset", "データを作る", "CSVなどから作ります", bool(app.data.list())),
        Step("training", "学習する", "モデルに覚えさせます", bool(trained)),
        Step("quantization", "軽くする", "1つのファイルにします", written),
        Step("ollama", "対話する", "学習した答えを確かめます", talked),
    ]


@st.fragment(run_every=POLL_S)
def draw_living() -> None:
    """The jobs that work or wait, read from disk again every two seconds."""
    with errors_shown():
        for job in studio().jobs.living():
            draw_job(job)


def draw_job(job: LivingJob) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{JOBS_JA.get(job.kind, '作業')}**　{plain(job.run_id)}", width="content"
            )
            state_badge(job.status.state)
            if job.status.state == "stalled" and end_button(job):
                studio().jobs.end(job)
                st.rerun(scope="fragment")
        if job.kind == "serve_model":
            st.caption("読み込まれています。ふつうは、最後の質問から10分たつと終わります。")
        else:
            progress_bar(job.status)
        if job.kind == "train":
            page = sitemap.page("training")
            st.page_link(page, label="様子を見る", query_params={PARAMETER: job.run_id})


def end_button(job: LivingJob) -> bool:
    tip = "応答しないプロセスを、待たずに終わらせます。待っているほかの作業が始められます。"
    key = f"end-{job.paths.folder.name}"
    return st.button("強制終了", icon=":material/block:", help=tip, key=key)


def draw_start() -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("サンプルで試す", icon=":material/play_arrow:", type="primary"):
            with st.spinner("サンプルを用意しています…"):
                run_id = sample.start(studio())
            st.switch_page(sitemap.page("training"), query_params={PARAMETER: run_id})
        st.caption(
            "架空の会社の質問と回答（80行）を、内蔵の小さなモデルに学習させます。数分かかります。"
        )


@st.cache_data(ttl=600, show_spinner="マシンを調べています（2秒ほど）…")
def diagnosis(root: str) -> Report:
    return studio().machine.doctor()


def draw_check() -> None:
    root = str(studio().workspace.root)
    report = diagnosis(root)
    troubles = [item for item in report.items if item.state != "ok"]
    verdict = "学習できます" if report.can_train else "足りない部品があり、学習できません"
    (st.success if report.can_train else st.error)(verdict, icon=":material/monitor_heart:")
    for item in troubles:
        draw_item(item, report.can_train)
    with st.expander(f"調べた項目（{len(report.items)}）", icon=":material/checklist:"):
        for item in report.items:
            draw_item(item, report.can_train)
        if st.button("もう一度調べる", icon=":material/refresh:"):
            diagnosis.clear()
            st.rerun()


def draw_item(item: Item, can_train: bool) -> None:
    """What is missing is no alarm where one can train without it."""
    mark = OPTIONAL if can_train and item.state == "missing" else MARKS[item.state]
    st.markdown(f"{mark}　**{item.name}**　{plain(item.value)}")
    if item.advice:
        st.caption(plain(item.advice))


st.title("ホーム")
st.caption(f"作業フォルダ: {plain(str(studio().workspace.root))}")
draw_living()

found = studio().runs.list()
st.header("次にすること")
draw_steps(steps(studio(), found))
draw_start()

st.header("最近の実験")
if found:
    run_table(found[:RECENT])
else:
    empty_state(
        "まだ実験がありません。データセットを作るか、「サンプルで試す」を押してください。",
        "dataset",
    )

st.header("環境チェック")
with errors_shown():
    draw_check()
