"""The choice of a run, kept in the address, so that a reload or a second tab shows the same one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.utils.units_ja import local_time

PARAMETER = "run"


def choose_run(runs: Sequence[Run]) -> Run:
    """A select box over `runs` (not empty); the first one unless the address names another."""
    by_id = {run.run_id: run for run in runs}
    asked = st.query_params.get(PARAMETER, "")
    names = list(by_id)
    chosen = st.selectbox(
        "実験",
        names,
        index=names.index(asked) if asked in by_id else 0,
        format_func=lambda run_id: run_title(by_id[run_id]),
        key=f"choose-{PARAMETER}",
        placeholder="選んでください",
    )
    run_id = chosen if chosen in by_id else names[0]
    st.query_params[PARAMETER] = run_id
    return by_id[run_id]


def run_title(run: Run) -> str:
    """`2026/11/23 19:31  tiny-ja ← facts  1a2b`; the id where there is no readable record.

    Nothing that changes while the run goes on: the select box knows its options by their titles.
    """
    started = local_time(run.created_at)
    if not started:
        return run.run_id
    return f"{started}　{run.model} ← {run.dataset}　{run.run_id[-4:]}"
