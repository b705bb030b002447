"""ホーム: what works now, the next step, the latest runs, and whether the machine is ready."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.doctor import Diagnosis, DiagnosisItem
from mlx_finetuning.jobs import kinds
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import _
from mlx_finetuning.ui import sample, sitemap
from mlx_finetuning.ui.components import stepper
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.jobs import POLL_S, progress_bar, share_done, state_badge
from mlx_finetuning.ui.components.runs import PARAMETER, first_line
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units import local_time

RECENT = 5
AUTOMATIC = _(
    "表を選んで保存したら、あとは「おまかせで作る」だけで、対話できるところまで進みます。"
)
SAMPLE = _(
    "架空の会社の質問と回答（80行）を、内蔵の小さなモデルに教え、確かめて、"
    "対話できるところまで進めます。数分かかります。"
)
IDLE_POLL_S = 60.0
# Of the steps, by their pages.
EXPLANATIONS = {
    "dataset": _("表から、教える質問と答えを作ります"),
    "training": _("モデルに覚えさせます"),
    "experiments": _("学習の前と後の答えを比べます"),
    "quantization": _("1つのファイルにします"),
    "chat": _("学習したモデルに質問します"),
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
                        f"**{kinds.of(job.kind).name}**　{plain(job.run_id)}", width="content"
                    )
                    state_badge(job.status.state)
                    if job.status.state == "stalled" and st.button(
                        _("強制終了"),
                        icon=":material/block:",
                        help=_(
                            "応答しないプロセスを、待たずに終わらせます。待っているほかの作業が始められます。"
                        ),
                        key=f"end-{job.paths.folder.name}",
                    ):
                        studio().jobs.end(job)
                        st.rerun(scope="fragment")
                if job.kind == "serve_model":
                    st.caption(
                        _("読み込まれています。ふつうは、最後の質問から10分たつと終わります。")
                    )
                else:
                    progress_bar(job.status)
                if job.kind == "train":
                    page = sitemap.page("training")
                    st.page_link(page, label=_("様子を見る"), query_params={PARAMETER: job.run_id})


def draw_steps(steps: Sequence[stepper.Step], newest: Run | None) -> None:
    """One card per step of the way."""
    with st.container(key="cards"):
        for number, (step, column) in enumerate(zip(steps, st.columns(len(steps)), strict=True), 1):
            with column, st.container(border=True, height="stretch"):
                stepper.link_to(step, number, newest)
                st.caption(EXPLANATIONS[step.page])


def draw_next(steps: Sequence[stepper.Step], newest: Run | None) -> None:
    """The first step that is not done, the whole way with the sample, and how long that takes."""
    upcoming = next((step for step in steps if not step.is_done), steps[-1])
    with st.container(horizontal=True, vertical_alignment="center", key="home-next"):
        stepper.link_to_next(upcoming, newest)
        if st.button(_("サンプルで試す"), icon=":material/play_arrow:", help=SAMPLE):
            with st.spinner(_("サンプルを用意しています…")):
                run_id = sample.start(studio())
            st.switch_page(sitemap.page("training"), query_params={PARAMETER: run_id})
    if newest is None:
        st.caption(
            _("{automatic}手もとに表がなければ、「サンプルで試す」から。{sample}").format(
                automatic=AUTOMATIC, sample=SAMPLE
            )
        )


def draw_recent(runs: list[Run]) -> None:
    """The latest runs as a table, and the way to all of them."""
    rows = []
    for run in runs[:RECENT]:
        line = first_line(run.run_id)
        result = _("まだ確かめていません") if run.status.state == "done" else ""
        rows.append(
            {
                _("始めた時刻"): local_time(run.created_at),
                _("データセット"): run.dataset,
                _("モデル"): run.model,
                _("状態"): f"{run.state_label} {share_done(run.status)}".strip(),
                _("結果"): line.line if line else result,
            }
        )
    show_table(rows, [f"experiments?{PARAMETER}={run.run_id}" for run in runs[:RECENT]])
    st.page_link(sitemap.page("experiments"), label=_("全ての実験を見る"))


@st.cache_data(ttl=600, show_spinner=_("マシンを調べています（2秒ほど）…"))
def cached_diagnosis(root: str) -> Diagnosis:
    """What is kept for ten minutes, or until it is asked for again."""
    return studio().machine.doctor()


def draw_diagnosis() -> None:
    """Whether one can train here, what is wrong, and all that was looked at."""
    root = str(studio().workspace.root)
    report = cached_diagnosis(root)
    verdict = (
        _("このパソコンで学習できます")
        if report.can_train
        else _("足りない部品があり、学習できません")
    )
    (st.success if report.can_train else st.error)(verdict, icon=":material/monitor_heart:")
    noticed = [item for item in report.items if item.state != "ok"]
    if not report.can_train:
        for item in noticed:
            draw_item(item, report.can_train)
    told = _("、気になる点 {noticed_count}").format(noticed_count=len(noticed)) if noticed else ""
    with st.expander(
        _("調べた項目（{items_count}{told}）").format(items_count=len(report.items), told=told),
        icon=":material/checklist:",
    ):
        for item in report.items:
            draw_item(item, report.can_train)
        if st.button(_("もう一度調べる"), icon=":material/refresh:"):
            cached_diagnosis.clear()
            st.rerun()
    st.caption(_("作業フォルダ: {root}").format(root=plain(root)))


def draw_item(item: DiagnosisItem, can_train: bool) -> None:
    """What is missing is no alarm where one can train without it."""
    mark = OPTIONAL if can_train and item.state == "missing" else MARKS[item.state]
    st.markdown(f"{mark}　**{item.name}**　{plain(item.value)}")
    if item.advice:
        st.caption(plain(item.advice))


st.title(_("ホーム", "page"))
st.caption(
    _(
        "質問と回答の表を教えて、自分のパソコンで答えるモデルを作ります。学習も答えも、このパソコンの中だけで行います。"
    )
)
# Where nothing lives, the browser rests; what others start is seen within a minute.
has_work = bool(studio().jobs.living())
st.fragment(draw_living_jobs, run_every=POLL_S if has_work else IDLE_POLL_S)()

runs = studio().runs.list()
st.header(_("次にすること"))
newest = next(iter(runs), None)
steps = stepper.steps_of(newest)
draw_next(steps, newest)
draw_steps(steps, newest)

st.header(_("最近の実験"))
if runs:
    draw_recent(runs)
else:
    empty_state(
        _("まだ実験がありません。データセットを作るか、「サンプルで試す」を押してください。"),
        "dataset",
    )

st.header(_("環境チェック"))
with errors_shown():
    draw_diagnosis()
