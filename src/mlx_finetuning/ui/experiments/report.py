"""What a run learned, forgot and memorised: its report."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from mlx_finetuning.experiment_tracker.evaluation.results import (
    SPLITS_JA,
    Report,
    SplitReport,
    examples,
)
from mlx_finetuning.ui.components.certificate import LOOKS
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units_ja import percent

ANSWERS = 50


def draw_report(run_id: str, report: Report) -> None:
    """Draw a run's report: judgements, their evidence, figures, answers."""
    judged = report.judgements
    for title, judgement in judged:
        show = LOOKS.get(judgement.level, st.info)
        show(f"**{title}**　{plain(judgement.text)}")
        if judgement is judged[0][1] and report.outcome is not None and report.outcome.ending:
            st.warning(plain(report.outcome.ending), icon=":material/flag:")
        if judgement.advice:
            st.markdown(f":material/arrow_forward: **次にすること**　{plain(judgement.advice)}")
    with st.expander("判定の根拠", icon=":material/fact_check:"):
        for title, judgement in judged:
            lines = [f"- {plain(line)}" for line in judgement.evidence]
            st.markdown("\n".join([f"**{title}**", "", *lines]))
    splits = report.splits
    figures = [_figures(name, splits[name]) for name in SPLITS_JA if name in splits]
    st.dataframe(figures, hide_index=True, placeholder="—")
    _draw_answers(splits)
    page = studio().workspace.run(run_id).report_html
    if page.is_file():
        st.download_button(
            "報告書を保存（HTML）",
            page.read_bytes,
            file_name=f"{run_id}.html",
            mime="text/html",
            icon=":material/download:",
            on_click="ignore",
        )


def _figures(name: str, split: SplitReport) -> dict[str, str]:
    def loss(value: float | None) -> str:
        return "—" if value is None else f"{value:.3f}"

    def share(value: float | None) -> str:
        return "—" if value is None else percent(value)

    return {
        "行の種類": SPLITS_JA[name],
        "行": f"{split.rows:,}",
        "損失（元のモデル）": loss(split.base.loss),
        "損失（学習後）": loss(split.tuned.loss),
        "正答率（元のモデル）": share(split.base.exact),
        "正答率（学習後）": share(split.tuned.exact),
        "自分で終えた答え": share(split.tuned.ended),
    }


def _draw_answers(splits: Mapping[str, SplitReport]) -> None:
    """Of held-out questions, else of taught ones: good, borderline and wrong answers, in this order."""
    name = next((name for name in ("test", "valid", "train") if name in splits), None)
    if name is None or not splits[name].answers:
        return
    rows = []
    for row in examples(splits[name].answers, ANSWERS):
        base, tuned = row.shown
        rows.append(
            {
                "": row.mark,
                "行": row.taught_ja,
                "質問": row.question,
                "正解": row.expected,
                "元のモデル": base,
                "学習後": tuned,
            }
        )
    with st.expander(f"答えの例（{SPLITS_JA[name]}）", icon=":material/chat:", expanded=True):
        st.dataframe(rows, hide_index=True, placeholder="—")
