"""Several runs side by side: their curves, their figures, and only the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.experiment_tracker.records.differences import Comparison, Figures
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui.components.charts import Curve, line_chart, smoothed
from mlx_finetuning.ui.components.metrics import metrics_of
from mlx_finetuning.ui.components.runs import first_line, run_title
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.settings_ja import label_of, shown_value
from mlx_finetuning.utils.units import duration

PARAMETER = "runs"
MOST = 8
VALID, TRAIN = "valid_loss", "loss"
FIGURES_JA = {VALID: N_("検証の損失"), TRAIN: N_("学習の損失")}
ORIGINS_JA = {
    "dataset_sha256": N_("データの内容（ハッシュ）"),
    "model_fingerprint": N_("元のモデルの内容（ハッシュ）"),
}


def draw_comparison(runs: Sequence[Run]) -> None:
    """The chosen runs' curves, results and different settings."""
    chosen = _choose(runs)
    if len(chosen) < 2:
        st.info(_("比べる実験を、2つ以上選んでください。"), icon=":material/compare:")
        return
    given = {run.run_id: studio().runs.note(run.run_id).name or run.model or "—" for run in chosen}
    names = {run_id: f"{name} {run_id[-4:]}" for run_id, name in given.items()}
    if len(set(names.values())) < len(names):
        names = {run.run_id: run.run_id for run in chosen}
    _draw_curves(names)
    stamps = []
    for run_id in names:
        paths = studio().workspace.run(run_id)
        files = (path for path in (paths.metrics, paths.status, paths.config) if path.is_file())
        stamps.append(sum(path.stat().st_mtime_ns for path in files))
    comparison = _cached_comparison(tuple(names), tuple(stamps))
    st.subheader(_("結果"))
    results = [_result_row(names[run.run_id], run) for run in comparison.runs]
    show_table(results)
    st.subheader(_("違う設定"))
    if not comparison.differences:
        st.success(_("設定もデータも同じです。"), icon=":material/check_circle:")
        return
    differences = []
    for key, values in comparison.differences.items():
        texts = (shown_value(key, value) for value in values)
        differences.append({_("設定"): label(key), **dict(zip(names.values(), texts, strict=True))})
    show_table(differences)


@st.cache_data(max_entries=8, show_spinner=False)
def _cached_comparison(run_ids: tuple[str, ...], stamps: tuple[int, ...]) -> Comparison:
    """Made anew when one of the runs goes on, which changes its stamp."""
    return studio().runs.compare(run_ids)


def _choose(runs: Sequence[Run]) -> list[Run]:
    """Kept in the address."""
    by_id = {run.run_id: run for run in runs}
    asked = st.query_params.get(PARAMETER, "").split(",")
    shown = [run_id for run_id in asked if run_id in by_id] or list(by_id)[:2]
    chosen = st.multiselect(
        _("比べる実験"),
        list(by_id),
        default=shown[:MOST],
        format_func=lambda run_id: run_title(by_id[run_id]),
        max_selections=MOST,
        key=f"compare-{','.join(shown)}",
        placeholder=_("選んでください"),
    )
    if chosen and chosen != shown:
        st.query_params[PARAMETER] = ",".join(chosen)
        st.rerun()
    return [by_id[run_id] for run_id in chosen]


def _draw_curves(names: Mapping[str, str]) -> None:
    """`names`: run id → name in the legend."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        figure = st.segmented_control(
            _("グラフ"),
            list(FIGURES_JA),
            format_func=name_in(FIGURES_JA),
            default=VALID,
            required=True,
            key="compare-figure",
            label_visibility="collapsed",
        )
        weight = 0.0
        if figure == TRAIN:
            weight = st.slider(
                _("平滑化"), 0.0, 0.98, 0.8, 0.02, key="compare-smoothing", width=220
            )
    curves: dict[str, Curve] = {}
    for run_id, name in names.items():
        metrics = metrics_of(run_id)
        curve: Curve = metrics.validated
        if figure == TRAIN:
            curve = metrics.trained["update"], smoothed(metrics.trained["loss"], weight)
        if curve[0]:
            curves[name] = curve
    if curves:
        line_chart(curves, _(FIGURES_JA[figure]))
    else:
        st.caption(_("まだ記録がありません。"))


def _result_row(name: str, run: Figures) -> dict[str, str]:
    """What it answers first, then what its losses say."""

    def loss(value: float | None) -> str:
        return "—" if value is None else f"{value:.4f}"

    best = (
        _("（更新 {best_update:,}）").format(best_update=run.best_update)
        if run.best_update is not None
        else ""
    )
    return {
        _("実験"): name,
        _("状態"): run.state,
        _("結果"): line.line if (line := first_line(run.run_id)) else _("まだ確かめていません"),
        _("更新", "count"): f"{run.updates:,}",
        _("学習の損失"): loss(run.last_loss),
        _("検証の損失（学習前）"): loss(run.first_valid_loss),
        _("検証の損失（最良）"): loss(run.best_valid_loss) + best,
        _("時間"): duration(run.elapsed_s),
    }


def label(key: str) -> str:
    """A setting's or an origin's name for people."""
    if key.startswith("versions."):
        return _("{removeprefix} の版").format(removeprefix=key.removeprefix("versions."))
    return _(ORIGINS_JA[key]) if key in ORIGINS_JA else label_of(TrainConfig, key)
