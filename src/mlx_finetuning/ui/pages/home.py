"""ホーム: what works now, the next step, the latest runs, and whether the machine is ready."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.doctor import Diagnosis, DiagnosisItem
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.ui import sample, sitemap
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.jobs import POLL_S, progress_bar, share_done, state_badge
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.messages_ja import JOBS_JA
from mlx_finetuning.utils.units_ja import duration, local_time

RECENT = 5
# Page, title and explanation of each step from data to a conversation.
STEPS = (
    ("dataset", "データを作る", "CSVなどから作ります"),
    ("training", "学習する", "モデルに覚えさせます"),
    ("quantization", "軽くする", "1つのファイルにします"),
    ("ollama", "対話する", "学習した答えを確かめます"),
)
MARKS = {
    "ok": ":green[:material/check_circle:]",
    "warn": ":orange[:material/warning:]",
    "missing": ":red[:material/cancel:]",
}
OPTIONAL = ":gray[:material/do_not_disturb_on:]"


@st.fragment(run_every=POLL_S)
def draw_living_jobs() -> None:
    """The jobs that work or wait, read from disk again every two seconds."""
    with errors_shown():
        for job in studio().jobs.living():
            with st.container(border=True):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(
                        f"**{JOBS_JA.get(job.kind, '作業')}**　{plain(job.run_id)}", width="content"
                    )
                    state_badge(job.status.state)
                    if job.status.state == "stalled" and st.button(
                        "強制終了",
                        icon=":material/block:",
                        help="応答しないプロセスを、待たずに終わらせます。待っているほかの作業が始められます。",
                        key=f"end-{job.paths.folder.name}",
                    ):
                        studio().jobs.end(job)
                        st.rerun(scope="fragment")
                if job.kind == "serve_model":
                    st.caption("読み込まれています。ふつうは、最後の質問から10分たつと終わります。")
                else:
                    progress_bar(job.status)
                if job.kind == "train":
                    page = sitemap.page("training")
                    st.page_link(page, label="様子を見る", query_params={PARAMETER: job.run_id})


def draw_steps(runs: list[Run]) -> None:
    """One card per step; the first that is not done is the next one."""
    app = studio()
    trained = [run for run in runs if run.status.state == "done" and not run.simulated]
    done = {
        "dataset": bool(app.data.list()),
        "training": bool(trained),
        "quantization": any(
            any(app.workspace.gguf_folder(run.run_id).glob("*.gguf")) for run in trained
        ),
        "ollama": any(app.chat.list(run.run_id) for run in trained),
    }
    upcoming = next((page for page, _, _ in STEPS if not done[page]), None)
    columns = st.columns(len(STEPS))
    for number, ((page, title, explanation), column) in enumerate(
        zip(STEPS, columns, strict=True), 1
    ):
        with column, st.container(border=True, height="stretch"):
            mark = ":green[:material/check_circle:]" if done[page] else f":gray[{number}]"
            st.markdown(f"{mark}　**{title}**")
            st.caption(explanation)
            label, icon = "開く", sitemap.ENTRIES[page].icon
            if page == upcoming:
                label, icon = "次はここ", ":material/arrow_forward:"
            st.page_link(sitemap.page(page), label=label, icon=icon)


def draw_recent(runs: list[Run]) -> None:
    """The latest runs as a table."""
    rows = [
        {
            "始めた時刻": local_time(run.created_at),
            "状態": run.state_ja,
            "モデル": run.model,
            "データセット": run.dataset,
            "進み": share_done(run.status),
            "経過": duration(run.status.elapsed_s) if run.status.elapsed_s else "",
            "実験ID": run.run_id,
        }
        for run in runs[:RECENT]
    ]
    show_table(rows)


@st.cache_data(ttl=600, show_spinner="マシンを調べています（2秒ほど）…")
def cached_diagnosis(root: str) -> Diagnosis:
    """What is kept for ten minutes, or until it is asked for again."""
    return studio().machine.doctor()


def draw_diagnosis() -> None:
    """Whether one can train here, what is wrong, and all that was looked at."""
    root = str(studio().workspace.root)
    report = cached_diagnosis(root)
    verdict = "学習できます" if report.can_train else "足りない部品があり、学習できません"
    (st.success if report.can_train else st.error)(verdict, icon=":material/monitor_heart:")
    for item in report.items:
        if item.state != "ok":
            draw_item(item, report.can_train)
    with st.expander(f"調べた項目（{len(report.items)}）", icon=":material/checklist:"):
        for item in report.items:
            draw_item(item, report.can_train)
        if st.button("もう一度調べる", icon=":material/refresh:"):
            cached_diagnosis.clear()
            st.rerun()


def draw_item(item: DiagnosisItem, can_train: bool) -> None:
    """What is missing is no alarm where one can train without it."""
    mark = OPTIONAL if can_train and item.state == "missing" else MARKS[item.state]
    st.markdown(f"{mark}　**{item.name}**　{plain(item.value)}")
    if item.advice:
        st.caption(plain(item.advice))


st.title("ホーム")
st.caption(f"作業フォルダ: {plain(str(studio().workspace.root))}")
draw_living_jobs()

runs = studio().runs.list()
st.header("次にすること")
draw_steps(runs)
with st.container(horizontal=True, vertical_alignment="center"):
    if st.button("サンプルで試す", icon=":material/play_arrow:", type="primary"):
        with st.spinner("サンプルを用意しています…"):
            run_id = sample.start(studio())
        st.switch_page(sitemap.page("training"), query_params={PARAMETER: run_id})
    st.caption(
        "架空の会社の質問と回答（80行）を、内蔵の小さなモデルに教え、確かめて、対話できるところまで進めます。数分かかります。"
    )

st.header("最近の実験")
if runs:
    draw_recent(runs)
else:
    empty_state(
        "まだ実験がありません。データセットを作るか、「サンプルで試す」を押してください。",
        "dataset",
    )

st.header("環境チェック")
with errors_shown():
    draw_diagnosis()
