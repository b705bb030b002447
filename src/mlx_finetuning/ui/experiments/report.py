"""What a run learned, forgot and memorised: its report and its certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import streamlit as st

from mlx_finetuning.ui.components.certificate import draw_certificate
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
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


def draw_report(run_id: str, report: Mapping[str, Any]) -> None:
    for name, title in _judged(report):
        _draw_judgement(title, report[name])
    _draw_evidence(report)
    st.dataframe(list(_figures(report["splits"])), hide_index=True, placeholder="—")
    _draw_answers(report["splits"])
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


def draw_proof(run_id: str) -> None:
    """The certificate, where there is one."""
    with errors_shown():
        found = studio().evaluation.certificate(run_id)
        if found is not None:
            draw_certificate(found)


def _judged(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Only of models that can think it is said whether they do."""
    return ((name, title) for name, title in JUDGED.items() if report.get(name) is not None)


def _draw_judgement(title: str, judged: Mapping[str, Any]) -> None:
    show = LOOKS.get(str(judged["level"]), st.info)
    show(f"**{title}**　{plain(str(judged['text']))}")
    if judged["advice"]:
        st.caption(plain(str(judged["advice"])))


def _draw_evidence(report: Mapping[str, Any]) -> None:
    with st.expander("判定の根拠", icon=":material/fact_check:"):
        for name, title in _judged(report):
            lines = [f"- {plain(str(line))}" for line in report[name]["evidence"]]
            st.markdown("\n".join([f"**{title}**", "", *lines]))


def _figures(splits: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for name in (name for name in SPLITS if name in splits):
        split = splits[name]
        base, tuned = split["base"], split["tuned"]
        yield {
            "行の種類": SPLITS[name],
            "行": f"{split['rows']:,}",
            "損失（元のモデル）": _shown(base["loss"], "{:.3f}".format),
            "損失（学習後）": _shown(tuned["loss"], "{:.3f}".format),
            "正答率（元のモデル）": _shown(base["exact"], percent),
            "正答率（学習後）": _shown(tuned["exact"], percent),
            "自分で終えた答え": _shown(tuned["ended"], percent),
        }


def _shown(value: float | None, form: Any) -> str:
    return "—" if value is None else str(form(value))


def _draw_answers(splits: Mapping[str, Any]) -> None:
    """Held-out questions first, and among them the wrong answers."""
    name = next((name for name in ("test", "valid", "train") if splits.get(name)), None)
    asked = splits[name]["answers"] if name else []
    if not asked:
        return
    rows = sorted(asked, key=lambda item: item["tuned_exact"])[:ANSWERS]
    with st.expander(f"答えの例（{SPLITS[str(name)]}）", icon=":material/chat:", expanded=True):
        st.dataframe([_answer(item) for item in rows], hide_index=True, placeholder="—")


def _answer(item: Mapping[str, Any]) -> dict[str, str]:
    return {
        "": "○" if item["tuned_exact"] else "×",
        "質問": str(item["question"]),
        "正解": str(item["expected"]),
        "元のモデル": _said(item, "base"),
        "学習後": _said(item, "tuned"),
    }


def _said(item: Mapping[str, Any], who: str) -> str:
    unfinished = "（考えている途中で終わりました）" if item.get(f"{who}_reasoning") else ""
    return str(item[who]) or unfinished
