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
from mlx_finetuning.language import _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.jobs import follow, progress_bar, show_end
from mlx_finetuning.ui.components.runs import PARAMETER, first_line
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio


@dataclass(frozen=True)
class Step:
    """One step of the way."""

    page: str
    is_done: bool

    @property
    def title(self) -> str:
        """The page's own: what the menu calls it, too."""
        return sitemap.ENTRIES[self.page].title


def draw_steps(page: str) -> None:
    """`page` is the name of the page that is shown; the home page has steps of its own."""
    run = next(iter(studio().runs.list(most=1)), None)
    with contextlib.suppress(StudioError):
        if asked := st.query_params.get(PARAMETER):
            run = studio().runs.show(asked)
    if page != "home":
        _draw_row(page, run)
    if run is not None and (journey := studio().auto.latest(run.run_id)) is not None:
        _draw_journey(run, journey)


def _draw_row(page: str, run: Run | None) -> None:
    steps = steps_of(run)
    with st.container(horizontal=True, vertical_alignment="center", key="steps"):
        for number, step in enumerate(steps, 1):
            link_to(step, number, run, is_here=step.page == page)
        upcoming = next((step for step in steps if not step.is_done), None)
        if upcoming is not None and upcoming.page != page:
            link_to_next(upcoming, run)


def link_to(step: Step, number: int, run: Run | None, *, is_here: bool = False) -> None:
    """The link to a step, with its number or the sign that it is done."""
    mark = ":green[✓]" if step.is_done else f"{number}"
    title = f"**{step.title}**" if is_here else step.title
    st.page_link(sitemap.page(step.page), label=f"{mark} {title}", query_params=_query(step, run))


def link_to_next(step: Step, run: Run | None) -> None:
    """The link to the first step that is not done."""
    with st.container(key="next-step", width="content"):
        st.page_link(
            sitemap.page(step.page),
            label=_("次へ: {title}").format(title=step.title),
            icon=":material/arrow_forward:",
            query_params=_query(step, run),
        )


def _query(step: Step, run: Run | None) -> dict[str, str]:
    return {} if run is None or step.page in ("dataset", "training") else {PARAMETER: run.run_id}


def steps_of(run: Run | None) -> list[Step]:
    """The steps as they stand for a run; without one only the data can be done."""
    app = studio()
    is_trained = run is not None and app.runs.is_trained(run)
    run_id = "" if run is None else run.run_id
    # A result that asks for something else first leads to its page, where that is done.
    line = first_line(run_id) if is_trained else None
    is_approved = line is not None and line.level == "good"
    return [
        Step("dataset", bool(app.data.list())),
        Step("training", is_trained),
        Step("experiments", is_approved),
        Step("quantization", is_trained and bool(app.exports.list(run_id))),
        Step("chat", is_trained and bool(app.chat.list(run_id))),
    ]


def _draw_journey(run: Run, journey: LaterJob) -> None:
    """The one progress line of おまかせ while it goes on, and the way back to it where it stopped."""
    if journey.status.state == "done":
        return

    def draw(status: JobStatus) -> None:
        with st.container(horizontal=True, vertical_alignment="center"):
            where = (
                ""
                if status.is_living
                else _("は「{stage}」で止まっています。").format(stage=status.stage or _("準備"))
            )
            st.markdown(_("**おまかせ**{where}").format(where=plain(where)), width="content")
            if status.is_living:
                stop = st.button(
                    _("おまかせを止める"),
                    icon=":material/pause:",
                    help=_("途中までを残して止めます。あとで、止めた段階から続けられます。"),
                    disabled=status.state == "stopping",
                    key=f"stop-{journey.name}",
                )
                if stop:
                    studio().jobs.stop(run.run_id, journey.name)
                    st.rerun()
            elif st.button(
                _("おまかせを続ける"),
                icon=":material/play_arrow:",
                help=_("止まった段階から続けます。"),
                key=f"go-{journey.name}",
            ):
                studio().auto.resume(run.run_id)
                st.rerun()
        if status.is_living:
            progress_bar(status)
        elif status.state != "cancelled":
            with st.expander(_("止まった理由"), icon=":material/error:"):
                show_end(status)

    with st.container(border=True):
        follow(journey.status, lambda: studio().jobs.status(run.run_id, journey.name), draw)
