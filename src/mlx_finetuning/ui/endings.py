"""Tells of jobs that end, on whatever page one is: in the tab's title, and by a note on the page.

Looks at the files while something lives that this tab has seen. A job that was stopped on request
is not told of. Nothing leaves the machine: the title is all that other tabs show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs.queue import LivingJob
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui.components.jobs import share_done
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.messages_ja import JOBS_JA

POLL_S = 3.0
PRODUCT = "mlx-finetuning"
SILENT = ("serve_model", "dry_run", "preview")
"""Kinds that whoever asked for them is waiting for, or that do not end by themselves."""
SEEN, TOLD = "endings-seen", "endings-told"


@dataclass(frozen=True)
class Ending:
    """How a state is told of."""

    words: str
    mark: str
    icon: str


ENDINGS = {
    "done": Ending("が終わりました", "✓", ":material/check_circle:"),
    "failed": Ending("が失敗しました", "⚠", ":material/error:"),
    "interrupted": Ending("が途切れました", "⚠", ":material/power_off:"),
}


def watch(page: str) -> None:
    """Keep an eye on the jobs; `page` is the title of the page that is shown."""

    def look() -> None:
        with errors_shown():
            living = _living()
            for job in _gone(living):
                _tell(job, page)
            st.session_state[SEEN] = living
            st.set_page_config(page_title=_title(living.values(), page))

    st.fragment(look, run_every=POLL_S if _living() else None)()


def _living() -> dict[str, LivingJob]:
    """By folder."""
    found = (job for job in studio().jobs.living() if job.kind not in SILENT)
    return {str(job.paths.folder): job for job in found}


def _gone(living: Iterable[str]) -> list[LivingJob]:
    seen: dict[str, LivingJob] = st.session_state.get(SEEN, {})
    return [job for folder, job in seen.items() if folder not in set(living)]


def _tell(job: LivingJob, page: str) -> None:
    with contextlib.suppress(StudioError, FileNotFoundError):  # deleted meanwhile
        status, subject = _outcome(job)
        ending = ENDINGS.get(status.state)
        if ending is not None:
            words = f"{JOBS_JA[job.kind]}{ending.words}"
            st.toast(f"**{words}**　{plain(subject)}", icon=ending.icon, duration="long")
            st.session_state[TOLD] = (page, f"{ending.mark} {words}")


def _outcome(job: LivingJob) -> tuple[JobStatus, str]:
    """How it ended, and of what it was. Raises StudioError, FileNotFoundError."""
    app, name = studio(), job.paths.folder.name
    if not job.run_id:
        return app.jobs.status("", name), str(app.jobs.settings("", name).get("name", ""))
    run = app.runs.show(job.run_id)
    status = run.status if job.kind == "train" else app.jobs.status(run.run_id, name)
    return status, f"{run.model} ← {run.dataset}"


def _title(living: Iterable[LivingJob], page: str) -> str:
    """What goes on; else what has ended since this page was opened; else the page."""
    job = next(iter(living), None)
    if job is not None:
        return f"{_progress(job)} | {PRODUCT}"
    told_on, words = st.session_state.get(TOLD, ("", ""))
    return f"{words if told_on == page else page} | {PRODUCT}"


def _progress(job: LivingJob) -> str:
    return f"{share_done(job.status)} {JOBS_JA[job.kind]}中".strip()
