"""The search for settings: its offer beside おまかせ, and how it goes on, until its last run is there."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.jobs.results import Tuned
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.language import N_, _
from mlx_finetuning.studio.tuning import MINUTES
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.jobs import follow, progress_bar, show_end
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio

TIP = N_(
    "短い学習をいくつか試して、教えていない質問によく答え、前からの知識を忘れにくい設定を選びます。"
    "そのあと、選んだ設定で最後まで学習します。"
)


def choose_minutes() -> float | None:
    """The switch, and how long the search may take; None while it is off."""
    if not st.toggle(_("先に、よい設定を探す"), help=_(TIP), key="tune"):
        return None
    return st.segmented_control(
        _("使う時間（学習も含む）"),
        MINUTES,
        default=MINUTES[1],
        format_func=lambda minutes: _("{minutes}分").format(minutes=minutes),
        key="tune-minutes",
    )


def draw_latest() -> None:
    """The newest search: how far it is, or what was chosen and why."""
    job = studio().tuning.latest()
    if job is None:
        return
    with st.container(border=True):
        st.markdown(_("**設定を探す**"))
        follow(
            job.status,
            lambda: studio().jobs.status("", job.name),
            lambda status: _draw(job, status),
        )


def _draw(job: LaterJob, status: JobStatus) -> None:
    if status.is_living:
        progress_bar(status)
        stop = st.button(
            _("止める"),
            icon=":material/pause:",
            help=_("終わった候補は残ります。あとで、止めたところから続けられます。"),
            disabled=status.state == JobState.STOPPING,
            key=f"stop-{job.name}",
        )
        if stop:
            studio().jobs.stop("", job.name)
            st.rerun()
    elif status.state == JobState.DONE:
        tuned = studio().jobs.result("", job.name, Tuned)
        st.success(plain(tuned.reason), icon=":material/tune:")
        st.page_link(
            sitemap.page("experiments"),
            label=_("選んだ設定の実験を見る"),
            icon=":material/arrow_forward:",
            query_params={PARAMETER: tuned.run_id},
        )
    else:
        show_end(status)
        if st.button(_("続ける"), icon=":material/play_arrow:", key=f"go-{job.name}"):
            studio().tuning.resume(job.name)
            st.rerun()
