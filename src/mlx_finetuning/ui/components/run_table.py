"""Runs as a table, the same wherever runs are listed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.ui.components.jobs import share_done
from mlx_finetuning.utils.units_ja import duration, local_time


def run_table(runs: Sequence[Run]) -> None:
    st.dataframe([_row(run) for run in runs], hide_index=True, placeholder="—")


def _row(run: Run) -> dict[str, str]:
    status = run.status
    return {
        "始めた時刻": local_time(run.created_at),
        "状態": run.state_ja,
        "モデル": run.model,
        "データセット": run.dataset,
        "進み": share_done(status),
        "経過": duration(status.elapsed_s) if status.elapsed_s else "",
        "実験ID": run.run_id,
    }
