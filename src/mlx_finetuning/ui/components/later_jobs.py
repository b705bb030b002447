"""A run's evaluations, exports and registrations as they go on, drawn from their files; and, with
an empty run id, jobs that belong to no run."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui.components.jobs import follow, progress_bar, show_end
from mlx_finetuning.ui.components.states import state_badge
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.ui.messages_ja import JOBS_JA


def latest(run_id: str, kinds: Collection[str]) -> LaterJob | None:
    """The job of these kinds that was started last."""
    found = [job for job in studio().jobs.list(run_id) if job.kind in kinds]
    return max(found, key=lambda job: job.status.created_at, default=None)


def draw_latest(run_id: str, kinds: Collection[str]) -> bool:
    """Follow the latest job while it lives, or say why it failed; returns whether it lives."""
    job = latest(run_id, kinds)
    if job is None or job.status.state in ("done", "damaged", "newer"):
        return False
    draw_job(run_id, job)
    return job.status.is_living


def draw_job(run_id: str, job: LaterJob, subject: str = "") -> None:
    """Follow a job, or say how it ended; `subject` is what it works on."""
    # An error has a frame of its own.
    with st.container(border=job.status.is_living):
        follow(
            lambda: studio().jobs.status(run_id, job.name),
            lambda status: _draw(run_id, job, subject, status),
        )


def _draw(run_id: str, job: LaterJob, subject: str, status: JobStatus) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        kind = JOBS_JA.get(job.kind, "作業")
        st.markdown(f"**{kind}**　{plain(subject)}".rstrip(), width="content")
        state_badge(status.state)
        stops = status.is_living and status.state != "stopping"
        if stops and st.button("中止", icon=":material/stop:", key=f"stop-{job.name}"):
            studio().jobs.stop(run_id, job.name)
            st.rerun()
    if status.is_living:
        progress_bar(status)
    else:
        show_end(status)
