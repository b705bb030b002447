"""All runs as a table, and the way from it to one run or to a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.runs import PARAMETER
from mlx_finetuning.ui.experiments import comparing, merging
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units_ja import duration, local_time


def draw_list(runs: Sequence[Run], detail: str, compare: str) -> None:
    """`detail` and `compare` are the views that chosen runs are shown in."""
    rows = {run.run_id: _row(run) for run in runs}
    text = st.text_input(
        "絞り込み",
        key="runs-filter",
        placeholder="モデル、データセット、状態、タグ、メモの言葉",
        icon=":material/search:",
    )
    words = text.lower().split()
    matches = [
        run_id
        for run_id, row in rows.items()
        if all(word in " ".join(row.values()).lower() for word in words)
    ]
    st.caption(f"{len(matches):,} 件。行の左端を選ぶと、詳しく見たり比べたりできます。")
    if not matches:
        return
    event: Any = st.dataframe(
        [rows[run_id] for run_id in matches],
        hide_index=True,
        placeholder="—",
        on_select="rerun",
        selection_mode="multi-row",
        column_config=dict.fromkeys(
            ("結果", "タグ", "メモ"), st.column_config.Column(width="medium")
        ),
        key=f"runs-table-{text}",
    )
    chosen = [matches[index] for index in event.selection.rows if index < len(matches)]
    page = sitemap.page("experiments")
    if len(chosen) == 1:
        query = {views.PARAMETER: detail, PARAMETER: chosen[0]}
        st.page_link(page, label="詳しく見る", icon=":material/article:", query_params=query)
    elif chosen:
        query = {views.PARAMETER: compare, comparing.PARAMETER: ",".join(chosen)}
        label = f"{len(chosen)}件を比べる"
        st.page_link(page, label=label, icon=":material/compare:", query_params=query)
        merging.draw_merge([run.run_id for run in chosen])


def _row(run: Run) -> dict[str, str]:
    run_id, best, result = run.run_id, None, ""
    note = studio().runs.note(run.run_id)
    metrics = studio().workspace.run(run_id).metrics
    if metrics.is_file():
        # Runs of other workspaces may have the same id.
        best = _cached_best_loss(str(metrics), run_id, metrics.stat().st_mtime_ns)
    report = studio().workspace.run(run_id).report
    if report.is_file():
        result = _cached_first_line(str(report), run_id, report.stat().st_mtime_ns)
    return {
        "始めた時刻": local_time(run.created_at),
        "状態": run.state_ja,
        "結果": result,
        "モデル": run.model,
        "データセット": run.dataset,
        "最良の損失": "" if best is None else f"{best:.4f}",
        "時間": duration(run.status.elapsed_s) if run.status.elapsed_s else "",
        "タグ": " ".join(note.tags),
        "メモ": note.text,
        "実験ID": run_id,
    }


@st.cache_data(max_entries=2000, show_spinner=False)
def _cached_first_line(path: str, run_id: str, changed_ns: int) -> str:
    """Read again only when the report has changed."""
    line = studio().evaluation.first_line(run_id)
    return "" if line is None else line.line


@st.cache_data(max_entries=2000, show_spinner=False)
def _cached_best_loss(path: str, run_id: str, changed_ns: int) -> float | None:
    """Read again only when the log has changed."""
    return studio().runs.best_loss(run_id)
