"""What a run learned, forgot and memorised: its report."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import streamlit as st

from mlx_finetuning.experiment_tracker.evaluation.results import (
    LIGHTS,
    MARKS_JA,
    SPLITS_JA,
    Report,
    SplitReport,
    examples,
)
from mlx_finetuning.language import _
from mlx_finetuning.ui.components.answers import draw_answers, legend
from mlx_finetuning.ui.components.certificate import LOOKS
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import percent

ANSWERS, OPEN = 50, 6
"""Answers that can be looked at, and those of them that are open."""


def draw_first_line(report: Report) -> None:
    """What the run came to, and the one thing to do next."""
    title, judgement = report.judgements[0]
    light = LIGHTS.get(judgement.level, "")
    LOOKS.get(judgement.level, st.info)(f"**{light} {title}**　{plain(judgement.text)}")
    if report.outcome is not None and report.outcome.ending:
        st.warning(plain(report.outcome.ending), icon=":material/flag:")
    if judgement.advice:
        st.markdown(
            _(":material/arrow_forward: **次にすること**　{advice}").format(
                advice=plain(judgement.advice)
            )
        )


def draw_report(run_id: str, report: Report) -> None:
    """The rest of a run's report: answers, further judgements, their evidence, figures."""
    judged = report.judgements
    _draw_pages(run_id)
    _draw_answers(report.splits)
    for column, (title, judgement) in zip(st.columns(len(judged) - 1), judged[1:], strict=True):
        with column:
            LOOKS.get(judgement.level, st.info)(f"**{title}**\n\n{plain(judgement.text)}")
    for title, judgement in judged[1:]:
        if judgement.advice:
            st.markdown(f":material/arrow_forward: **{title}**　{plain(judgement.advice)}")
    if report.before is not None:
        title = _("続きの前後（{run_id}）").format(run_id=report.before.run_id)
        st.info(f"**{title}**　{plain(report.before.text)}", icon=":material/compare_arrows:")
    with st.expander(_("判定の根拠"), icon=":material/fact_check:"):
        for title, judgement in judged:
            lines = [f"- {plain(line)}" for line in judgement.evidence]
            st.markdown("\n".join([f"**{title}**", "", *lines]))
    splits = report.splits
    figures = [_figures(name, splits[name]) for name in SPLITS_JA if name in splits]
    with st.expander(_("くわしい数字"), icon=":material/table_chart:"):
        show_table(figures)


def _draw_pages(run_id: str) -> None:
    """The page for who decides, and the whole report: to be opened and printed, or kept as files."""
    evaluation = studio().evaluation
    pages = (
        ("summary", _("まとめ（A4 1枚）"), evaluation.summary),
        ("full", _("報告書（全て）"), evaluation.page),
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        for kind, title, __ in pages:
            st.link_button(
                _("{title}を開く").format(title=title),
                f"/report/{run_id}/{kind}",
                icon=":material/print:",
                help=_("別のタブに開きます。そのまま印刷したり、PDFにしたりできます。"),
            )
        keep = st.popover(_("ファイルに保存"), icon=":material/download:")
        for kind, title, make in pages:
            keep.download_button(
                _("{title}を保存").format(title=title),
                partial(make, run_id),
                file_name=f"{run_id}-{kind}.html",
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
        _("行の種類"): _(SPLITS_JA[name]),
        _("行"): f"{split.rows:,}",
        _("損失（学習前）"): loss(split.base.loss),
        _("損失（学習後）"): loss(split.tuned.loss),
        **{
            f"{mark} {_(name_ja)}": f"{split.marked(mark):,}" if split.answers else "—"
            for mark, name_ja in MARKS_JA.items()
        },
        _("自分で終えた答え"): share(split.tuned.ended),
    }


def _draw_answers(splits: Mapping[str, SplitReport]) -> None:
    """Of taught and of held-out questions: good, borderline and wrong answers, in this order."""
    answers = [one for name in ("train", "test") if name in splits for one in splits[name].answers]
    if not answers and "valid" in splits:
        answers = list(splits["valid"].answers)
    if not answers:
        return
    shown = examples(answers, OPEN)
    others = [one for one in examples(answers, ANSWERS) if one not in shown]
    with st.expander(_("答えの例"), icon=":material/chat:", expanded=True):
        st.caption(legend())
        draw_answers(shown)
        if others and st.toggle(
            _("残り{shown_count}問も見る").format(shown_count=len(others)), key="more-answers"
        ):
            draw_answers(others)
