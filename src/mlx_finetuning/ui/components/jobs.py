"""A job's progress, drawn from its files; the job goes on whatever happens to the page."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown
from mlx_finetuning.utils.units_ja import duration

POLL_S = 2.0


def follow(read: Callable[[], JobStatus], draw: Callable[[JobStatus], None]) -> None:
    """Draw the job's status anew every two seconds while it lives, and the page once it has ended.

    `read` looks at the disk; both run in a fragment, so widgets in `draw` redraw only it.
    """
    first = read()

    def look() -> None:
        with errors_shown():
            status = read()
            if first.is_living and not status.is_living:
                st.rerun()
            draw(status)

    st.fragment(look, run_every=POLL_S if first.is_living else None)()


def progress_bar(status: JobStatus) -> None:
    """How far the job is, in its stage's units: `学習　120 / 300　損失 1.23　残り 約1分20秒`."""
    parts = [status.stage or "準備"]
    if status.total:
        # Bytes and parameters come in millions; nobody reads those digits.
        exact = f"{status.done:,} / {status.total:,}"
        parts.append(f"{status.done / status.total:.0%}" if status.total >= 10**6 else exact)
    parts.append(status.detail)
    if status.remaining_s is not None:
        parts.append(f"残り 約{duration(status.remaining_s)}")
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
            "作業が途中で途切れました（強制終了、メモリ不足、再起動など）。",
            icon=":material/power_off:",
        )
