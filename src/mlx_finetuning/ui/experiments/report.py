"""What a run learned, forgot and memorised: its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units_ja import percent

JUDGED = {
    "verdict": "学習したか",
    "forgetting": "ほかのことを忘れたか",
    "memorising": "丸暗記していないか",
    "stopping": "答えを終えられるか",
    "thinking": "考えてから答えるか",
}
SPLITS = {"train": "学習した行", "valid": "検証の行", "test": "学習していない行"}
LOOKS = {"good": st.success, "warning": st.warning, "bad": st.error}
ANSWERS = 50
UNFINISHED = "（考えている途中で終わりました）"


def draw_report(run_id: str, report: Mapping[str, Any]) -> None:
    """Draw the content of a run's `report.json`: judgements, their evidence, figures, answers."""
    # Only of models that can think it is said whether they do.
    judged = {name: title for name, title in JUDGED.items() if report.get(name) is not None}
    for name, title in judged.items():
        judgement = report[name]
        show = LOOKS.get(str(judgement["level"]), st.info)
        show(f"**{title}**　{plain(str(judgement['text']))}")
        if judgement["advice"]:
            st.caption(plain(str(judgement["advice"])))
    with st.expander("判定の根拠", icon=":material/fact_check:"):
        for name, title in judged.items():
            lines = [f"- {plain(str(line))}" for line in report[name]["evidence"]]
            st.markdown("\n".join([f"**{title}**", "", *lines]))
    splits = report["splits"]
    figures = [_figures(name, splits[name]) for name in SPLITS if name in splits]
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


def _figures(name: str, split: Mapping[str, Any]) -> dict[str, str]:
    def loss(side: str) -> str:
        value = split[side]["loss"]
        return "—" if value is None else f"{value:.3f}"

    def share(side: str, figure: str) -> str:
        value = split[side][figure]
        return "—" if value is None else percent(value)

    return {
        "行の種類": SPLITS[name],
        "行": f"{split['rows']:,}",
        "損失（元のモデル）": loss("base"),
        "損失（学習後）": loss("tuned"),
        "正答率（元のモデル）": share("base", "exact"),
        "正答率（学習後）": share("tuned", "exact"),
        "自分で終えた答え": share("tuned", "ended"),
    }


def _draw_answers(splits: Mapping[str, Any]) -> None:
    """Held-out questions first, and among them the wrong answers."""
    name = next((name for name in ("test", "valid", "train") if splits.get(name)), None)
    if name is None or not splits[name]["answers"]:
        return
    rows = []
    for row in sorted(splits[name]["answers"], key=lambda row: row["tuned_exact"])[:ANSWERS]:
        base, tuned = (
            str(row[side]) or (UNFINISHED if row.get(f"{side}_reasoning") else "")
            for side in ("base", "tuned")
        )
        rows.append(
            {
                "": "○" if row["tuned_exact"] else "×",
                "質問": str(row["question"]),
                "正解": str(row["expected"]),
                "元のモデル": base,
                "学習後": tuned,
            }
        )
    with st.expander(f"答えの例（{SPLITS[name]}）", icon=":material/chat:", expanded=True):
        st.dataframe(rows, hide_index=True, placeholder="—")
