"""What was found in the rows: each finding with its rows and, where there is one, its remedy."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.config import PrepareConfig
from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.clean import STEPS
from mlx_finetuning.data_processor.findings import Finding
from mlx_finetuning.data_processor.settings import DROPPABLE
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.ui.messages_ja import FIXES_JA

SHOWN_ROWS = 100
LOOKS = {
    "error": (":red[:material/block:]", "使えない"),
    "warning": (":orange[:material/warning:]", "注意"),
    "info": (":blue[:material/info:]", "参考"),
}
REMEDIES = {
    "CONTROL_CHARACTER": "control",
    "HALF_WIDTH_KANA": "halfwidth_kana",
    "MIXED_WIDTH": "fullwidth_alnum",
    "EDGE_SPACE": "trim",
    "PERSONAL_DATA": "mask_personal",
    "HTML": "html",
    "EXCEL_ESCAPE": "excel",
    "CONTROL_TOKEN": "control_tokens",
}
"""Finding → cleaning step that mends it."""


def draw_findings(choices: Choices, path: Path, inspection: Inspection) -> None:
    """How many rows are used, what was found in them, the worst first, and what is left out."""
    totals = {
        "全体": inspection.source_rows,
        "使う行": inspection.usable_rows,
        "使わない行": inspection.source_rows - inspection.usable_rows,
    }
    for column, (label, rows) in zip(st.columns(3), totals.items(), strict=True):
        column.metric(label, f"{rows:,} 行", border=True)
    severities = list(LOOKS)
    for finding in sorted(inspection.findings, key=lambda item: severities.index(item.severity)):
        _draw_finding(choices, path, inspection.encoding, finding)
    if not inspection.findings:
        st.success("気になる行はありませんでした。", icon=":material/check_circle:")
    for code in choices.dropped:
        st.button(
            f"除いた行を戻す（{code}）",
            key=choices.key(f"back-{code}"),
            icon=":material/undo:",
            on_click=choices.set,
            args=(f"drop-{code}", False),
        )


def _draw_finding(choices: Choices, path: Path, encoding: str, finding: Finding) -> None:
    """With its rows, and buttons that mend or leave them out, or what to do in the file."""
    mark, label = LOOKS[finding.severity]
    count = f"（{len(finding.rows):,}行）" if finding.rows else ""
    with st.container(border=True, gap="small"):
        st.markdown(f"{mark} **{label}**　{plain(finding.message)}{count}")
        with st.container(horizontal=True, vertical_alignment="center"):
            is_open = finding.rows and st.toggle("行を見る", key=choices.key(f"see-{finding.code}"))
            step = REMEDIES.get(finding.code)
            if step is not None:
                st.button(
                    f"直す（{STEPS[step].description}）",
                    key=choices.key(f"fix-{finding.code}"),
                    icon=":material/healing:",
                    on_click=choices.set,
                    args=(f"clean-{step}", True),
                )
            if finding.code.lower() in DROPPABLE:
                st.button(
                    "この行を除く",
                    key=choices.key(f"leave-{finding.code}"),
                    icon=":material/playlist_remove:",
                    on_click=choices.set,
                    args=(f"drop-{finding.code.lower()}", True),
                )
            elif step is None and (fix := FIXES_JA.get(finding.code, finding.fix)):
                st.caption(plain(fix))
        if is_open:
            st.dataframe(
                _cached_rows(str(path), encoding, finding.rows[:SHOWN_ROWS], choices.settings()),
                hide_index=True,
                placeholder="（空）",
            )
            if len(finding.rows) > SHOWN_ROWS:
                st.caption(f"はじめの{SHOWN_ROWS}行です。")


@st.cache_data(max_entries=16, show_spinner="行を読んでいます…")
def _cached_rows(
    path: str, encoding: str, numbers: tuple[int, ...], asked: PrepareConfig
) -> list[dict[str, str]]:
    return studio().data.source_rows(Path(path), encoding, numbers, asked)
