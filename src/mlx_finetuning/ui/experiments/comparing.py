"""Several runs side by side: their curves, their figures, and only the settings that differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.records.differences import Comparison, Figures
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.ui.components.charts import Curve, line_chart
from mlx_finetuning.ui.components.curves import smoothed
from mlx_finetuning.ui.components.metrics import metrics_of
from mlx_finetuning.ui.components.runs import run_title
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units_ja import duration

PARAMETER = "runs"
MOST = 8
VALID, TRAIN = "検証の損失", "学習の損失"
ORIGINS_JA = {
    "dataset_sha256": "データの内容（ハッシュ）",
    "model_fingerprint": "元のモデルの内容（ハッシュ）",
}


def draw_comparison(runs: Sequence[Run]) -> None:
    chosen = _choose(runs)
    if len(chosen) < 2:
        st.info("比べる実験を、2つ以上選んでください。", icon=":material/compare:")
        return
    names = _names(chosen)
    _draw_curves(names)
    found = _compared(tuple(names), tuple(map(_stamp, names)))
    st.subheader("結果")
    st.dataframe(
        [_figures(names[run.run_id], run) for run in found.runs], hide_index=True, placeholder="—"
    )
    st.subheader("違う設定")
    _draw_differences(list(names.values()), found.differences)


@st.cache_data(max_entries=8, show_spinner=False)
def _compared(run_ids: tuple[str, ...], stamps: tuple[int, ...]) -> Comparison:
    return studio().runs.compare(run_ids)


def _stamp(run_id: str) -> int:
    """Changes when the run goes on."""
    paths = studio().workspace.run(run_id)
    there = (path for path in (paths.metrics, paths.status, paths.config) if path.is_file())
    return sum(path.stat().st_mtime_ns for path in there)


def _choose(runs: Sequence[Run]) -> list[Run]:
    """Kept in the address."""
    by_id = {run.run_id: run for run in runs}
    asked = st.query_params.get(PARAMETER, "").split(",")
    given = [name for name in asked if name in by_id] or list(by_id)[:2]
    chosen = st.multiselect(
        "比べる実験",
        list(by_id),
        default=given[:MOST],
        format_func=lambda name: run_title(by_id[name]),
        max_selections=MOST,
        key=f"compare-{','.join(given)}",
        placeholder="選んでください",
    )
    if chosen and chosen != given:
        st.query_params[PARAMETER] = ",".join(chosen)
        st.rerun()
    return [by_id[name] for name in chosen]


def _names(runs: Sequence[Run]) -> dict[str, str]:
    """Run id → a short name, different for each."""
    short = {run.run_id: f"{run.model or '—'} {run.run_id[-4:]}" for run in runs}
    is_clear = len(set(short.values())) == len(short)
    return short if is_clear else {run.run_id: run.run_id for run in runs}


def _draw_curves(names: Mapping[str, str]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shown = st.segmented_control(
            "グラフ",
            [VALID, TRAIN],
            default=VALID,
            required=True,
            key="compare-figure",
            label_visibility="collapsed",
        )
        weight = 0.0
        if shown == TRAIN:
            weight = st.slider("平滑化", 0.0, 0.98, 0.8, 0.02, key="compare-smoothing", width=220)
    curves = {name: _curve(run_id, shown == VALID, weight) for run_id, name in names.items()}
    drawn = {name: curve for name, curve in curves.items() if curve[0]}
    if drawn:
        line_chart(drawn, str(shown))
    else:
        st.caption("まだ記録がありません。")


def _curve(run_id: str, valid: bool, weight: float) -> Curve:
    metrics = metrics_of(run_id)
    if valid:
        return metrics.validated
    return metrics.trained["update"], smoothed(metrics.trained["loss"], weight)


def _figures(name: str, run: Figures) -> dict[str, str]:
    best = f"（更新 {run.best_update:,}）" if run.best_update is not None else ""
    return {
        "実験": name,
        "状態": run.state,
        "更新": f"{run.updates:,}",
        "学習の損失": _loss(run.last_loss),
        "検証の損失（学習前）": _loss(run.first_valid_loss),
        "検証の損失（最良）": _loss(run.best_valid_loss) + best,
        "時間": duration(run.elapsed_s),
    }


def _loss(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


def _draw_differences(names: Sequence[str], found: Mapping[str, Sequence[Any]]) -> None:
    if not found:
        st.success("設定もデータも同じです。", icon=":material/check_circle:")
        return
    rows = [
        {"設定": label(key), **{name: _told(value) for name, value in zip(names, row, strict=True)}}
        for key, row in found.items()
    ]
    st.dataframe(rows, hide_index=True, placeholder="—")


def _told(value: Any) -> str:
    return "—" if value is None else str(value)


def label(key: str) -> str:
    """A setting's or an origin's name for people."""
    for item in dataclasses.fields(TrainConfig):
        if item.name == key:
            return f"{item.metadata['help'].split('。', 1)[0]}（{key}）"
    if key.startswith("versions."):
        return f"{key.removeprefix('versions.')} の版"
    return ORIGINS_JA.get(key, key)
