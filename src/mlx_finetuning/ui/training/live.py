"""A run as it goes on, drawn from its files: whoever looks, and after whatever restart, sees it."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.errors import StudioError
from mlx_finetuning.experiment_tracker.evaluation.results import UNFINISHED
from mlx_finetuning.jobs import kinds
from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.jobs.status import JobStatus
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components.certificate import LOOKS
from mlx_finetuning.ui.components.charts import line_chart, loss_chart
from mlx_finetuning.ui.components.jobs import follow, progress_bar, show_end, state_badge
from mlx_finetuning.ui.components.metrics import metrics_of
from mlx_finetuning.ui.components.runs import PARAMETER, first_line, resume_button
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.settings_ja import label_of, shown_value
from mlx_finetuning.utils.units import duration

LOSS = "loss"
CHARTS_JA = {
    LOSS: N_("損失"),
    "learning_rate": N_("学習率"),
    "gradient_norm": N_("勾配の大きさ"),
    "tokens_per_second": N_("速度（トークン/秒）"),
    "peak_memory_gb": N_("メモリー（GB）"),
}
"""By field of the metrics."""
TAUGHT_JA = {True: N_("教えた"), False: N_("教えていない")}


def draw_run(run_id: str) -> None:
    """The run, anew every two seconds while it lives."""

    def draw(status: JobStatus) -> None:
        run = studio().runs.show(run_id)
        metrics = metrics_of(run.run_id)
        with st.container(horizontal=True, vertical_alignment="center"):
            state_badge(run.shown_state, run.simulated)
            st.caption(plain(f"{run.title}　{run.run_id}"), width="content")
            _draw_buttons(run)
        if run.problems:
            st.warning(
                _("読めない記録があります: {problems}。残りを表示します。").format(
                    problems=_("、").join(run.problems)
                )
            )
        if run.status.state == "queued":
            before = [
                _("{name}（{run_id}）").format(
                    name=kinds.of(job.kind).name, run_id=job.run_id or job.paths.folder.name
                )
                for job in studio().jobs.before(run.run_id)
            ]
            told = _("順番待ちです。{before}が終わると始まります。").format(
                before=_("、").join(before) or _("前の作業")
            )
            st.info(plain(told), icon=":material/hourglass:")
        elif run.status.is_living:
            progress_bar(run.status)
        else:
            show_end(run.status, studio().runs.log_tail(run.run_id))
            _draw_ending(run)
        _draw_figures(run.status, metrics)
        _draw_chart(metrics)
        _draw_events(run.run_id)
        _draw_samples(run.run_id)
        draw_settings(run_id)
        with st.expander(_("ログの最後"), icon=":material/terminal:"):
            st.code(
                studio().runs.log_tail(run_id) or _("（まだありません）"),
                language=None,
                wrap_lines=True,
            )

    status = studio().runs.show(run_id).status
    follow(status, lambda: studio().runs.show(run_id).status, draw)


def _draw_ending(run: Run) -> None:
    """What its losses and, once it was evaluated, its answers say of a run that is done."""
    told = studio().runs.ending(run)
    if told.text:
        show = st.error if told.state == "diverged" else st.warning
        show(plain(told.text), icon=":material/flag:")
    line = first_line(run.run_id)
    if line is not None:
        LOOKS[line.level](plain(line.text), icon=":material/grading:")
        if line.advice:
            st.markdown(
                _(":material/arrow_forward: **次にすること**　{advice}").format(
                    advice=plain(line.advice)
                )
            )
        with st.container(key="next-action", width="content"):
            st.page_link(
                sitemap.page("experiments"),
                label=_("成果を見る"),
                icon=":material/arrow_forward:",
                query_params={PARAMETER: run.run_id},
            )


def _draw_buttons(run: Run) -> None:
    state = run.status.state
    if state in ("running", "stalled", "queued"):
        label = _("順番待ちをやめる") if state == "queued" else _("一時停止")
        tip = _("途中まで保存して止めます。あとで「再開」できます。")
        if st.button(label, icon=":material/pause:", help=tip, key=f"stop-{run.run_id}"):
            studio().runs.stop(run.run_id)
            st.rerun()
    if state in ("stalled", "stopping"):
        tip = _("応答しないプロセスを、待たずに終わらせます。最後の途中保存は残ります。")
        if st.button(_("強制終了"), icon=":material/block:", help=tip, key=f"end-{run.run_id}"):
            studio().runs.stop(run.run_id, force=True)
            st.rerun()
    resume_button(run)


def _draw_figures(status: JobStatus, metrics: Metrics) -> None:
    """Losses, time, speed and memory; the time left while it works, afterwards how far it came."""

    def latest(name: str, form: str, unit: str = "") -> str:
        value = metrics.latest(name)
        return "—" if value is None else f"{value:{form}}{unit}"

    best, left_s = metrics.best_valid, status.remaining_s
    figures = {
        _("学習の損失"): latest("loss", ".3f"),
        _("検証の損失（最良）"): "—" if best is None else f"{best[1]:.3f}",
        _("経過"): duration(status.elapsed_s) if status.elapsed_s else "—",
    }
    if status.is_living:
        figures[_("残り")] = (
            "—" if left_s is None else _("約{left_s}").format(left_s=duration(left_s))
        )
    else:
        figures[_("更新", "count")] = latest("update", ",.0f", _(" 回"))
    figures[_("速度（トークン/秒）")] = latest("tokens_per_second", ",.0f")
    figures[_("最大メモリー")] = latest("peak_memory_gb", ".2f", " GB")
    with st.container(horizontal=True, key="run-figures"):
        for label, value in figures.items():
            st.metric(label, value, border=True)
    held_gb = metrics.latest("card_memory_gb")
    if held_gb is not None:
        st.caption(
            _(
                "GPUのメモリーは、ほかのプログラムの分も合わせて {held_gb:.2f} GB を使用中です。"
            ).format(held_gb=held_gb)
        )


def _draw_chart(metrics: Metrics) -> None:
    updates = metrics.trained["update"]
    if not updates and not metrics.validated[0]:
        st.caption(_("最初の更新が終わると、ここにグラフが表示されます。"))
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        figure = st.segmented_control(
            _("グラフ"),
            list(CHARTS_JA),
            format_func=name_in(CHARTS_JA),
            default=LOSS,
            required=True,
            key="figure",
            label_visibility="collapsed",
        )
        if figure == LOSS:
            smoothing = st.slider(_("平滑化"), 0.0, 0.98, 0.8, 0.02, key="smoothing", width=220)
    if figure == LOSS:
        loss_chart((updates, metrics.trained["loss"]), metrics.validated, smoothing)
    else:
        label = _(CHARTS_JA[figure])
        line_chart({label: (updates, metrics.trained[figure])}, label)


def _draw_events(run_id: str) -> None:
    """Warnings of the run, and what was chosen for it."""
    for event in studio().runs.events(run_id):
        if event.event == "warning":
            st.warning(plain(event.text), icon=":material/warning:")
        elif event.event == "unpacked":
            st.info(plain(event.text), icon=":material/memory:")


def draw_settings(run_id: str) -> None:
    """What the run was started with, and what was found when it was fitted into memory."""
    with st.expander(_("この実験の設定"), icon=":material/tune:"):
        fit = studio().runs.fit(run_id)
        if fit is not None:
            st.caption(
                plain(
                    _(
                        "必要なメモリーの見積もり {needed_gb} GB（使えるのは {available_gb} GB）、一度に計算できる例は {largest_batch_size} まで、最も長い例は {longest_tokens} トークン。"
                    ).format(
                        needed_gb=fit.needed_gb,
                        available_gb=fit.available_gb,
                        largest_batch_size=fit.largest_batch_size,
                        longest_tokens=fit.longest_tokens,
                    )
                )
            )
        try:
            settings = studio().runs.settings(run_id)
        except StudioError:
            st.caption(_("設定の記録は読めません。"))
        else:
            rows = [
                {_("設定"): label_of(TrainConfig, name), _("値"): shown_value(name, value)}
                for name, value in settings.items()
            ]
            show_table(rows)


def _draw_samples(run_id: str) -> None:
    """The answers of the model to some questions, at the last update that asked them."""
    samples = studio().runs.samples(run_id)
    if not samples:
        return
    update = samples[-1].update
    with st.expander(
        _("見本の回答（更新 {update} のとき）").format(update=update),
        icon=":material/chat:",
        expanded=True,
    ):
        rows = [
            {
                _("質問"): sample.question,
                **({} if sample.taught is None else {_("教えたか"): _(TAUGHT_JA[sample.taught])}),
                _("今の答え"): sample.answer or (_(UNFINISHED) if sample.reasoning else ""),
                _("正解"): sample.expected,
            }
            for sample in samples
            if sample.update == update
        ]
        show_table(rows)
