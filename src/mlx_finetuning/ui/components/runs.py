"""The choice of a run, kept in the address, so that a reload or a second tab shows the same one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.evaluation.results import Verdict
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import local_time

PARAMETER = "run"


def choose_run(runs: Sequence[Run]) -> Run:
    """A select box over `runs` (not empty); the first one unless the address names another."""
    by_id = {run.run_id: run for run in runs}
    asked = st.query_params.get(PARAMETER, "")
    names = list(by_id)
    is_unknown = bool(asked) and asked not in by_id
    if is_unknown:
        st.warning(_why_missing(asked), icon=":material/search_off:")
    index = names.index(asked) if asked in by_id else 0
    chosen = st.selectbox(
        _("実験"),
        names,
        # Another run in the place of the one that is asked for would be taken for it.
        index=None if is_unknown else index,
        format_func=lambda run_id: run_title(by_id[run_id]),
        key=f"choose-{PARAMETER}-{is_unknown}",
        placeholder=_("選んでください"),
    )
    if chosen is None and is_unknown:
        st.stop()
    run_id = chosen if chosen in by_id else names[0]
    st.query_params[PARAMETER] = run_id
    return by_id[run_id]


def _why_missing(run_id: str) -> str:
    """Of a run that the address names and the page cannot show."""
    with contextlib.suppress(StudioError):
        state = studio().runs.show(run_id).state_label
        return _("実験 {run_id} は「{state}」なので、ここではまだ使えません。").format(
            run_id=plain(run_id), state=state
        )
    if any(one.run_id == run_id for one in studio().runs.deleted()):
        return _("実験 {run_id} は、ゴミ箱にあります。「実験」の「ゴミ箱」で元に戻せます。").format(
            run_id=plain(run_id)
        )
    return _("実験 {run_id} は見つかりません。下から選んでください。").format(run_id=plain(run_id))


def resume_button(run: Run) -> None:
    """The way on for a run that stopped on its way; nothing for others."""
    was_cut_off = run.status.state == "interrupted" and run.can_go_on
    if not (run.resumable or was_cut_off):
        return
    tip = _("最後の途中保存から、止めなかったときと同じように続けます。")
    if not run.resumable:
        tip = _("途中保存がまだないので、はじめから学習します。")
    if st.button(
        _("再開"), icon=":material/play_arrow:", help=tip, type="primary", key=f"go-{run.run_id}"
    ):
        studio().training.resume(run.run_id)
        st.rerun()


def run_title(run: Run) -> str:
    """`2026/11/23 19:31  tiny-ja ← facts  1a2b`; with a name `総務FAQ  2026/11/23 19:31  1a2b`, which a phone
    has room for; the id where there is no readable record.

    Nothing that changes while the run goes on: the select box knows its options by their titles.
    """
    started = local_time(run.created_at)
    if not started:
        return run.run_id
    name = studio().runs.note(run.run_id).name
    return "　".join((*((name, started) if name else (started, run.title)), run.run_id[-4:]))


def first_line(run_id: str) -> Verdict | None:
    """What the run's latest evaluation came to; None before one."""
    report = studio().workspace.run(run_id).report
    if not report.is_file():
        return None
    # Runs of other workspaces may have the same id.
    return _cached_first_line(str(report), run_id, report.stat().st_mtime_ns)


@st.cache_data(max_entries=2000, show_spinner=False)
def _cached_first_line(path: str, run_id: str, changed_ns: int) -> Verdict | None:
    """Read again only when the report has changed."""
    return studio().evaluation.first_line(run_id)
