"""Tells of jobs that end, on whatever page one is: in the tab's title, and by a note on the page.

Looks at the files while something lives that this tab has seen. A job that was stopped on request
is not told of. Nothing leaves the machine: the title is all that other tabs show, and the browser's own
notice, where the user asked for it.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs import kinds
from mlx_finetuning.jobs.queue import LivingJob
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.jobs import share_done
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio

POLL_S = 3.0
PRODUCT = "mlx-finetuning"
NOTIFY = """<script>
window.noticesShown ??= new Set();
if (!window.noticesShown.has(KEY)) {
  window.noticesShown.add(KEY);
  if (window.Notification?.permission === "granted") new Notification(...SAID);
}
</script>"""
NOTICE_S = 10.0
"""How long a notice is drawn: the next drawing may follow at once, and takes away a script that the
browser had no time for. The tab knows what it has shown."""
SEEN, TOLD, NOTICES = "endings-seen", "endings-told", "endings-notices"
"""Session state: the living jobs at the last look, by folder; what was told of last, and where; the
browser's notices, and when each was made."""


@dataclass(frozen=True)
class Ending:
    """How a state is told of."""

    mark: str
    icon: str


ENDINGS = {
    "done": Ending("✓", ":material/check_circle:"),
    "failed": Ending("⚠", ":material/error:"),
    "interrupted": Ending("⚠", ":material/power_off:"),
}


def watch(page: str) -> None:
    """Keep an eye on the jobs; `page` is the title of the page that is shown."""

    def look() -> None:
        with errors_shown():
            living = _living_jobs()
            seen: dict[str, LivingJob] = st.session_state.get(SEEN, {})
            for folder, job in seen.items():
                if folder not in living:
                    _tell(job, page)
            st.session_state[SEEN] = living
            for script, made_s in st.session_state.get(NOTICES, []):
                if time.monotonic() - made_s < NOTICE_S:
                    st.html(script, unsafe_allow_javascript=True)
            told_on, text = st.session_state.get(TOLD, ("", ""))
            title = text if told_on == page else page
            if living:
                job = next(iter(living.values()))
                title = (
                    _("{share_done} {name}中")
                    .format(share_done=share_done(job.status), name=kinds.of(job.kind).name)
                    .strip()
                )
            st.set_page_config(page_title=f"{title} | {PRODUCT}")

    # No fragment where nothing lives: `components.jobs.follow` says what a former timer would do.
    if _living_jobs():
        st.fragment(look, run_every=POLL_S)()
    else:
        look()


def _living_jobs() -> dict[str, LivingJob]:
    """By folder."""
    jobs = (job for job in studio().jobs.living() if kinds.of(job.kind).is_told)
    return {str(job.paths.folder): job for job in jobs}


def _tell(job: LivingJob, page: str) -> None:
    """Say how a job ended that lived at the last look, and of what it was."""
    app, name = studio(), job.paths.folder.name
    with contextlib.suppress(StudioError, FileNotFoundError):  # deleted meanwhile
        if job.run_id:
            run = app.runs.show(job.run_id)
            status = run.status if job.kind == "train" else app.jobs.status(run.run_id, name)
            subject = run.title
        else:
            status = app.jobs.status("", name)
            subject = str(app.jobs.settings("", name).get("name", ""))
        ending = ENDINGS.get(status.state)
        if ending is not None:
            # A measurement of types is an export of which nothing is kept.
            kind = job.kind
            if kind == "export" and app.jobs.settings(job.run_id, name).get("advise"):
                kind = "advise"
            text = kinds.told(kind, status.state)
            st.toast(f"**{text}**　{plain(subject)}", icon=ending.icon, duration="long")
            st.session_state[TOLD] = (page, f"{ending.mark} {text}")
            if app.preferences.notifies():
                # The browser asks for leave on the page 設定.
                said = json.dumps([text, {"body": subject}], ensure_ascii=False)
                made_s = time.monotonic()  # a run that goes on ends more than once
                script = NOTIFY.replace("KEY", json.dumps(f"{name} {made_s}"))
                script = script.replace("SAID", said.replace("<", "\\u003c"))
                st.session_state.setdefault(NOTICES, []).append((script, made_s))
