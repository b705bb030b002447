"""ホーム: what works now, the next step, the latest runs, and whether the machine is ready."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.doctor import Diagnosis, DiagnosisItem
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.ui import sample, sitemap
from mlx_finetuning.ui.components import stepper
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.jobs import POLL_S, progress_bar, share_done, state_badge
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.messages_ja import JOBS_JA
from mlx_finetuning.utils.units_ja import duration, local_time

RECENT = 5
IDLE_POLL_S = 60.0
# Of the steps, by their pages.
EXPLANATIONS = {
    "dataset": "表から、教える質問と答えを作ります",
    "training": "モデルに覚えさせます",
    "experiments": "学習の前と後の答えを比べます",
    "quantization": "1つのファイルにします",
    "chat": "学習したモデルに質問します",
}
MARKS = {
    "ok": ":green[:material/check_circle:]",
    "warn": ":orange[:material/warning:]",
    "missing": ":red[:material/cancel:]",
}
OPTIONAL = ":gray[:material/do_not_disturb_on:]"


def draw_living_jobs() -> None:
    """The jobs that work or wait, read from disk again every two seconds while there are any."""
    with errors_shown():
        living = studio().jobs.living()
        if bool(living) != has_work:
            st.rerun()
        for job in living:
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


def draw_steps(newest: Run | None) -> None:
    """One card per step; the first that is not done is the next one."""
    steps = stepper.steps_of(newest)
    upcoming = next((step for step in steps if not step.is_done), None)
    query = {} if newest is None else {PARAMETER: newest.run_id}
    for number, (step, column) in enumerate(zip(steps, st.columns(len(steps)), strict=True), 1):
        with column, st.container(border=True, height="stretch"):
            mark = ":green[:material/check_circle:]" if step.is_done else f":gray[{number}]"
            st.markdown(f"{mark}　**{step.title}**")
            st.caption(EXPLANATIONS[step.page])
            is_next = step == upcoming
            st.page_link(
                sitemap.page(step.page),
                label=f"{'次はここ' if is_next else '開く'}: {step.title}",
                icon=":material/arrow_forward:" if is_next else sitemap.ENTRIES[step.page].icon,
                query_params={} if step.page in ("dataset", "training") else query,
            )


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
# Where nothing lives, the browser rests; what others start is seen within a minute.
has_work = bool(studio().jobs.living())
st.fragment(draw_living_jobs, run_every=POLL_S if has_work else IDLE_POLL_S)()

runs = studio().runs.list()
st.header("次にすること")
draw_steps(next(iter(runs), None))
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
