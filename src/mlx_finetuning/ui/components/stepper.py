"""The way from data to a conversation, on every page: what is done, what is next, and おまかせ at work.

All is read from the files of the run that the address names, else of the newest one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs.runs import LaterJob, Run
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.jobs import follow, progress_bar, show_end
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.frame import studio


@dataclass(frozen=True)
class Step:
    """One step of the way."""

    page: str
    title: str
    is_done: bool


def draw_steps(page: str) -> None:
    """`page` is the name of the page that is shown."""
    run = next(iter(studio().runs.list(most=1)), None)
    with contextlib.suppress(StudioError):
        if asked := st.query_params.get(PARAMETER):
            run = studio().runs.show(asked)
    steps = steps_of(run)
    upcoming = next((step for step in steps if not step.is_done), None)
    query = {} if run is None else {PARAMETER: run.run_id}
    with st.container(horizontal=True, vertical_alignment="center", key="steps"):
        for number, step in enumerate(steps, 1):
            mark = ":green[✓]" if step.is_done else f"{number}"
            label = f"{mark} **{step.title}**" if step.page == page else f"{mark} {step.title}"
            st.page_link(
                sitemap.page(step.page),
                label=label,
                query_params={} if step.page in ("dataset", "training") else query,
            )
        if upcoming is not None and upcoming.page != page:
            st.page_link(
                sitemap.page(upcoming.page),
                label=f"次へ: {upcoming.title}",
                icon=":material/arrow_forward:",
                query_params={} if upcoming.page in ("dataset", "training") else query,
            )
    if run is not None and (journey := studio().auto.latest(run.run_id)) is not None:
        _draw_journey(run, journey)


def steps_of(run: Run | None) -> list[Step]:
    """The steps as they stand for a run; without one only the data can be done."""
    app = studio()
    is_trained = run is not None and app.runs.is_trained(run)
    run_id = "" if run is None else run.run_id
    return [
        Step("dataset", "データ", bool(app.data.list())),
        Step("training", "学習", is_trained),
        Step("experiments", "確かめる", is_trained and app.workspace.run(run_id).report.is_file()),
        Step("quantization", "軽くする", is_trained and bool(app.exports.list(run_id))),
        Step("chat", "話す", is_trained and bool(app.chat.list(run_id))),
    ]


def _draw_journey(run: Run, journey: LaterJob) -> None:
    """The one progress line of おまかせ while it goes on, and the way back to it where it stopped."""
    if journey.status.state == "done":
        return

    def draw(status: JobStatus) -> None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**おまかせ**", width="content")
            if status.is_living:
                stop = st.button(
                    "おまかせを止める",
                    icon=":material/pause:",
                    help="途中までを残して止めます。あとで、止めた段階から続けられます。",
                    disabled=status.state == "stopping",
                    key=f"stop-{journey.name}",
                )
                if stop:
                    studio().jobs.stop(run.run_id, journey.name)
                    st.rerun()
            elif st.button(
                "おまかせを続ける", icon=":material/play_arrow:", key=f"go-{journey.name}"
            ):
                studio().auto.resume(run.run_id)
                st.rerun()
        if status.is_living:
            progress_bar(status)
        else:
            show_end(status)

    with st.container(border=True):
        follow(lambda: studio().jobs.status(run.run_id, journey.name), draw)
