"""What was found in the rows: each finding with its rows and, where there is one, its remedy."""

from __future__ import annotations

import re
from collections import Counter

import streamlit as st

from mlx_finetuning.data_processor import Inspection
from mlx_finetuning.data_processor.clean import STEPS
from mlx_finetuning.data_processor.findings import KINDS, Finding
from mlx_finetuning.data_processor.settings import DROPPABLE
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.choices import Choices
from mlx_finetuning.ui.dataset.editing import Editing, draw_undo
from mlx_finetuning.ui.dataset.rows import draw_all, draw_rows
from mlx_finetuning.ui.messages_ja import FIXES_JA

SHOWN_ROWS = 100
ALL = "all"
"""Stands for all rows, where otherwise a finding says which are looked at."""
LOOKS = {
    "error": (":red[:material/block:]", N_("使えない")),
    "warning": (":orange[:material/warning:]", N_("注意")),
    "info": (":blue[:material/info:]", N_("参考")),
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
    "CELL_MARKS": "marks",
    "RADICAL": "radicals",
}
"""Finding → cleaning step that mends it."""


def draw_findings(choices: Choices | None, editing: Editing, inspection: Inspection) -> None:
    """How many rows are used, what was found in them, the worst first, with the rows to be edited,
    and what is left out. Without `choices` the settings stay as they are."""
    totals = {
        _("全体"): inspection.source_rows,
        _("使う行"): inspection.usable_rows,
        _("使わない行"): inspection.source_rows - inspection.usable_rows,
    }
    for column, (label, rows) in zip(st.columns(3), totals.items(), strict=True):
        column.metric(label, _("{rows:,} 行").format(rows=rows), border=True)
    draw_undo(editing)
    seen: Counter[str] = Counter()
    severities = list(LOOKS)
    notes = sum(map(_only_explains, inspection.findings))
    place = st.container()
    explained = (
        st.expander(_("表の読み方（{notes}件）").format(notes=notes), icon=":material/info:")
        if notes
        else place
    )
    for finding in sorted(inspection.findings, key=lambda item: severities.index(item.severity)):
        seen[finding.code] += 1
        name = f"{finding.code}-{seen[finding.code]}"
        block = explained if _only_explains(finding) else place
        # By its key it stays the same container, wherever it comes to stand: what is typed is kept.
        with block, st.container(border=True, gap="small", key=editing.key(f"finding-{name}")):
            _draw_finding(choices, editing, finding, name)
        st.session_state.setdefault(editing.key("messages"), {})[name] = finding.message
    if not inspection.findings:
        st.success(_("気になる行はありませんでした。"), icon=":material/check_circle:")
    opened = st.session_state.get(editing.key("open"), "")
    code, __, number = opened.rpartition("-")
    looked_at = st.session_state.get(editing.key("rows"), {}).get(opened, ())
    is_edited = any(edit.row in looked_at for edit in editing.edits)
    if opened not in ("", ALL) and is_edited and seen[code] < int(number):
        _draw_solved(editing, opened)
    for code in choices.dropped if choices else ():
        st.button(
            _("除いた行を戻す（{short}）").format(short=plain(short_ja(code.upper()))),
            key=choices.key(f"back-{code}") if choices else None,
            icon=":material/undo:",
            on_click=choices.set if choices else None,
            args=(f"drop-{code}", False),
        )
    with st.container(border=True, gap="small", key=editing.key("finding-all")):
        if _is_open(editing, ALL, _("全ての行を見る・直す")):
            draw_all(editing, editing.table())


def short_ja(code: str) -> str:
    """The beginning of what a finding says, to name it by."""
    if code not in KINDS:
        return code
    return re.split(r"[。（]|\.$|\. | \(", _(KINDS[code].message))[0]


def _only_explains(finding: Finding) -> bool:
    """How the table was read, as against what one might mend in its rows."""
    return (
        finding.severity == "info"
        and finding.code not in REMEDIES
        and finding.code.lower() not in DROPPABLE
    )


def _is_open(editing: Editing, name: str, label: str) -> bool:
    """A switch, of which one is on at a time."""
    key = editing.key(f"see-{name}")
    st.toggle(label, key=key, on_change=_open, args=(editing, name))
    return bool(st.session_state[key])


def _open(editing: Editing, name: str) -> None:
    before = st.session_state.get(editing.key("open"), "")
    if before not in ("", name):
        st.session_state[editing.key(f"see-{before}")] = False
    is_on = st.session_state[editing.key(f"see-{name}")]
    st.session_state[editing.key("open")] = name if is_on else ""
    editing.renew(forgets=True)


def _draw_solved(editing: Editing, name: str) -> None:
    """The rows of a finding that is gone since they were edited."""
    with st.container(border=True, gap="small", key=editing.key(f"finding-{name}")):
        message = st.session_state.get(editing.key("messages"), {}).get(name, "")
        st.markdown(
            _(":green[:material/check_circle:] **直りました**　{message}").format(
                message=plain(message)
            )
        )
        if _is_open(editing, name, _("行を見る・直す")):
            draw_rows(editing, editing.table(), name, tuple)


def _draw_finding(choices: Choices | None, editing: Editing, finding: Finding, name: str) -> None:
    """With its rows, and buttons that mend or leave them out, or what to do in the file."""
    mark, label = LOOKS[finding.severity]
    count = _("（{rows_count:,}行）").format(rows_count=len(finding.rows)) if finding.rows else ""
    st.markdown(f"{mark} **{label}**　{plain(_(finding.message))}{count}")
    is_open = False
    with st.container(horizontal=True, vertical_alignment="center"):
        if finding.rows:
            is_open = _is_open(editing, name, _("行を見る・直す"))
        step = REMEDIES.get(finding.code)
        can_drop = finding.code.lower() in DROPPABLE
        if choices and step is not None:
            st.button(
                _("直す（{description}）").format(description=plain(STEPS[step].description)),
                key=choices.key(f"fix-{finding.code}"),
                icon=":material/healing:",
                on_click=choices.set,
                args=(f"clean-{step}", True),
            )
        if choices and can_drop:
            st.button(
                _("この行を除く"),
                key=choices.key(f"leave-{finding.code}"),
                icon=":material/playlist_remove:",
                on_click=choices.set,
                args=(f"drop-{finding.code.lower()}", True),
            )
        elif step is not None or can_drop:
            if not choices:
                st.caption(_("ここで行を直すか消すか、「新しく作る」で作り直してください。"))
        elif fix := _(FIXES_JA.get(finding.code, finding.fix)):
            st.caption(plain(fix))
    if is_open:
        draw_rows(editing, editing.table(), name, lambda: finding.rows[:SHOWN_ROWS])
        if len(finding.rows) > SHOWN_ROWS:
            st.caption(
                _("はじめの{shown_rows}行です。直してから開き直すと、続きの行が出ます。").format(
                    shown_rows=SHOWN_ROWS
                )
            )
