"""Jobs as every page shows them: state, progress and end, drawn from their files; and the jobs of
a run after its training (with an empty run id, those that belong to no run).

A job goes on whatever happens to the page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs import kinds
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.jobs.status import JobState, JobStatus
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units import duration

POLL_S = 2.0
Color = Literal["red", "orange", "blue", "green", "gray"]

LOOKS: dict[str, tuple[Color, str]] = {
    "queued": ("gray", "hourglass_empty"),
    "running": ("blue", "play_circle"),
    "stopping": ("orange", "stop_circle"),
    "done": ("green", "check_circle"),
    "failed": ("red", "error"),
    "cancelled": ("gray", "stop_circle"),
    "paused": ("orange", "pause_circle"),
    "interrupted": ("orange", "power_off"),
    "stalled": ("orange", "sync_problem"),
    "damaged": ("red", "broken_image"),
    "newer": ("gray", "update"),
}


def state_badge(state: str, simulated: bool = False) -> None:
    """The badge of a `JobStatus.state`, and another one on a run that was only simulated."""
    color, icon = LOOKS[state]
    with st.container(horizontal=True, gap="small", width="content"):
        st.badge(JobState(state).label, icon=f":material/{icon}:", color=color)
        if simulated:
            st.badge(_("シミュレーション"), icon=":material/theater_comedy:", color="violet")


def follow(
    first: JobStatus, read: Callable[[], JobStatus], draw: Callable[[JobStatus], None]
) -> None:
    """Draw the job's status anew every two seconds while it lives, and the page once it has ended.

    `first` is the status that the page around it was drawn with; `read` looks at the disk. Both run
    in a fragment, so widgets in `draw` redraw only it.
    """

    def look() -> None:
        with errors_shown():
            status = read()
            if not status.is_living:
                st.rerun()
            draw(status)

    def show() -> None:
        with errors_shown():
            draw(read())

    # Two functions, so that an ended job's fragment has a name of its own: Streamlit (1.67) drops
    # the rest of a page that is just being sent when a former timer asks for a fragment in it.
    if first.is_living:
        st.fragment(look, run_every=POLL_S)()
    else:
        st.fragment(show)()


def progress_bar(status: JobStatus) -> None:
    """How far the job is, in its stage's units: `学習　120 / 300　損失 1.23　残り 約1分20秒`."""
    parts = [status.stage or _("準備")]
    if status.total:
        # Bytes and parameters come in millions; nobody reads those digits.
        exact = f"{status.done:,} / {status.total:,}"
        parts.append(f"{status.done / status.total:.0%}" if status.total >= 10**6 else exact)
    parts.append(status.detail)
    if status.remaining_s is not None:
        parts.append(_("残り 約{remaining_s}").format(remaining_s=duration(status.remaining_s)))
    share = min(status.done / status.total, 1.0) if status.total else 0.0
    st.progress(share, text=plain("　".join(part for part in parts if part)))


def share_done(status: JobStatus) -> str:
    """`40%` of a living job, where its stage counts; otherwise empty."""
    return f"{status.done / status.total:.0%}" if status.is_living and status.total else ""


def show_end(status: JobStatus, log_tail: str = "") -> None:
    """Why an ended job did not finish; nothing for one that did or is still at work."""
    if status.error is not None:
        show_error(StudioError.from_json(status.error), log_tail)
    elif status.state == "interrupted":
        st.warning(
            _(
                "作業が途中で途切れました（強制終了、メモリー不足、再起動など）。"
                "学習は「再開」で続きから始められます。ほかの作業は、もう一度実行してください。"
            ),
            icon=":material/power_off:",
        )


def latest(run_id: str, kinds: Collection[str]) -> LaterJob | None:
    """The job of these kinds that was started last."""
    jobs = [job for job in studio().jobs.list(run_id) if job.kind in kinds]
    return max(jobs, key=lambda job: job.status.created_at, default=None)


def draw_latest(run_id: str, kinds: Collection[str]) -> bool:
    """Follow the latest job while it lives, or say why it failed; returns whether it lives."""
    job = latest(run_id, kinds)
    if job is None or job.status.state in ("done", "damaged", "newer"):
        return False
    draw_job(run_id, job)
    return job.status.is_living


def draw_job(run_id: str, job: LaterJob, subject: str = "") -> None:
    """Follow a job, or say how it ended; `subject` is what it works on."""

    def draw(status: JobStatus) -> None:
        with st.container(horizontal=True, vertical_alignment="center"):
            kind = kinds.of(job.kind).name
            st.markdown(f"**{kind}**　{plain(subject)}".rstrip(), width="content")
            state_badge(status.state)
            can_stop = status.is_living and status.state != "stopping"
            if can_stop and st.button(_("中止"), icon=":material/stop:", key=f"stop-{job.name}"):
                studio().jobs.stop(run_id, job.name)
                st.rerun()
        if status.is_living:
            progress_bar(status)
        else:
            show_end(status)

    # An error has a frame of its own.
    with st.container(border=job.status.is_living):
        follow(job.status, lambda: studio().jobs.status(run_id, job.name), draw)
