"""All runs as a table: filtered, with the columns that one wants, and what can be done with some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from mlx_finetuning.jobs.runs import Run
from mlx_finetuning.language import N_, _
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import views
from mlx_finetuning.ui.components.errors import show_error
from mlx_finetuning.ui.components.runs import PARAMETER, first_line
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.experiments import comparing, merging
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.units import duration, local_time

Row = dict[str, str | float | None]
MARK, NAME, STARTED, STATE, RIGHT = (
    *(N_("印"), N_("名前"), N_("始めた時刻"), N_("状態"), N_("正答率")),
)
RESULT, MODEL, DATASET, UNLIKE = N_("結果"), N_("モデル"), N_("データセット"), N_("ほかと違う設定")
BEST_LOSS, TIME, TAGS, NOTE = N_("最良の損失"), N_("時間"), N_("タグ"), N_("メモ")
RUN_ID = N_("実験ID")
COLUMNS = (
    *(MARK, NAME, STARTED, STATE, RIGHT, RESULT, MODEL, DATASET),
    *(UNLIKE, BEST_LOSS, TIME, TAGS, NOTE, RUN_ID),
)
"""As they are kept; shown in the language of the pages."""
FILTERS = (STATE, DATASET, MODEL)
PINNED, BEST = N_("固定"), N_("★最良")
WIDTHS = {MARK: 100, NAME: 170, RESULT: 320, UNLIKE: 240, TAGS: 120, NOTE: 240}
"""In pixels; other columns are as wide as their texts."""
ON_CARDS = (STARTED, NAME, MARK, STATE, RESULT, DATASET)
MOST_CARDS = 60


def draw_list(runs: Sequence[Run], detail: str, compare: str) -> None:
    """`detail` and `compare` are the views that chosen runs are shown in."""
    rows = _rows(runs)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        matches = _filtered(rows)
        shown = _choose_columns()
    # The style sheet shows one of both: no table of so many columns can be read on a phone.
    with st.container(key="runs-narrow"):
        draw_cards({run_id: rows[run_id] for run_id in matches[:MOST_CARDS]}, len(matches))
    with st.container(key="runs-wide"):
        chosen = choose_lines(rows, matches, shown)
    if not chosen:
        return
    page = sitemap.page("experiments")
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(chosen) == 1:
            query = {views.PARAMETER: detail, PARAMETER: chosen[0]}
            st.page_link(page, label=_("詳しく見る"), icon=":material/article:", query_params=query)
        else:
            query = {views.PARAMETER: compare, comparing.PARAMETER: ",".join(chosen)}
            label = _("{chosen_count}件を比べる").format(chosen_count=len(chosen))
            st.page_link(page, label=label, icon=":material/compare:", query_params=query)
        with st.popover(
            _("{chosen_count}件をゴミ箱に移す").format(chosen_count=len(chosen)),
            icon=":material/delete:",
        ):
            st.markdown(
                _("記録、学習したアダプター、書き出したモデルを移します。あとで元に戻せます。")
            )
            if st.button(_("移す"), type="primary", key="delete-runs"):
                problems = studio().runs.delete_all(chosen)
                for problem in problems:
                    show_error(problem)

                if not problems:
                    st.rerun()
    if len(chosen) > 1:
        merging.draw_merge(chosen)


def choose_lines(
    rows: Mapping[str, Row], matches: Sequence[str], shown: Sequence[str]
) -> list[str]:
    """The table, and the runs that are chosen in it."""
    st.caption(
        _(
            "{matches_count:,} 件。行の左端を選ぶと、詳しく見る、比べる、まとめてゴミ箱に移すことができます。"
        ).format(matches_count=len(matches))
    )
    if not matches:
        return []
    event: Any = st.dataframe(
        [{name: rows[run_id][name] for name in COLUMNS} for run_id in matches],
        hide_index=True,
        placeholder="—",
        on_select="rerun",
        selection_mode="multi-row",
        # A column in which nothing stands tells nothing.
        column_order=[name for name in shown if any(rows[run_id][name] for run_id in matches)],
        column_config={name: _look(name) for name in COLUMNS},
        # Lines are chosen by their place: others would be meant once other lines are shown.
        key=f"runs-table-{hash(tuple(matches))}",
    )
    return [matches[index] for index in event.selection.rows if index < len(matches)]


def draw_cards(rows: Mapping[str, Row], count: int) -> None:
    """The runs with what matters of each; the first line of a card leads to it. count: of all."""
    if len(rows) < count:
        st.caption(_("{count:,} 件のうち、新しい {shown} 件").format(count=count, shown=len(rows)))
    cards = [{_(name): str(row[name]) for name in ON_CARDS} for row in rows.values()]
    show_table(cards, [f"experiments?{PARAMETER}={run_id}" for run_id in rows])


def _filtered(rows: Mapping[str, Row]) -> list[str]:
    """The runs that have all the words, and one of the values that were chosen."""
    text = st.text_input(
        _("絞り込み"),
        key="runs-filter",
        placeholder=_("言葉で探す"),
        icon=":material/search:",
        width=300,
    )
    wanted: dict[str, list[str]] = {}
    for name in FILTERS:
        values = sorted({str(row[name]) for row in rows.values()})
        if len(values) > 1:
            wanted[name] = st.multiselect(
                _(name), values, key=f"runs-{name}", placeholder=_("全て"), width=200
            )
    words = text.lower().split()
    return [
        run_id
        for run_id, row in rows.items()
        if all(word in " ".join(map(str, row.values())).lower() for word in words)
        and all(row[name] in values for name, values in wanted.items() if values)
    ]


def _look(name: str) -> Any:
    """How a column is drawn."""
    if name == RIGHT:
        return st.column_config.NumberColumn(_(name), format="%.0f%%", width="small")
    return st.column_config.TextColumn(_(name), width=WIDTHS.get(name))


def _choose_columns() -> list[str]:
    """Kept with the user's preferences."""
    kept = [name for name in studio().preferences.columns() or COLUMNS if name in COLUMNS]
    with st.popover(_("表示する列"), icon=":material/view_column:", key="runs-shown"):
        chosen = st.multiselect(
            _("表示する列"),
            COLUMNS,
            default=kept,
            format_func=_,
            key="runs-columns",
            placeholder=_("全て"),
        )
    shown = [name for name in COLUMNS if name in chosen] or list(COLUMNS)
    if shown != kept:
        studio().preferences.save_columns(shown)
    return shown


def _rows(runs: Sequence[Run]) -> dict[str, Row]:
    """By run, those that are pinned first."""
    unlike = _cached_distinctions(
        str(studio().workspace.root), tuple(run.run_id for run in runs if run.created_at)
    )
    rows = {run.run_id: _row(run, unlike.get(run.run_id, "")) for run in runs}
    for run_id in _best(runs, rows):
        rows[run_id][MARK] = f"{rows[run_id][MARK]} {_(BEST)}".strip()
    return dict(sorted(rows.items(), key=lambda item: _(PINNED) not in str(item[1][MARK])))


def _best(runs: Sequence[Run], rows: Mapping[str, Row]) -> list[str]:
    """Of each dataset that has several finished runs, the one with most right answers, then with the
    lowest loss."""
    by_dataset: dict[str, list[str]] = {}
    for run in runs:
        if run.status.state == "done" and not run.simulated:
            by_dataset.setdefault(run.dataset, []).append(run.run_id)

    def rank(run_id: str) -> tuple[float, float]:
        right, loss = rows[run_id][RIGHT], rows[run_id][BEST_LOSS]
        return (-1.0 if right is None else float(right), -float(loss or "inf"))

    return [max(same, key=rank) for same in by_dataset.values() if len(same) > 1]


def _row(run: Run, unlike: str) -> Row:
    run_id, best = run.run_id, None
    note = studio().runs.note(run.run_id)
    metrics = studio().workspace.run(run_id).metrics
    if metrics.is_file():
        # Runs of other workspaces may have the same id.
        best = _cached_best_loss(str(metrics), run_id, metrics.stat().st_mtime_ns)
    line = first_line(run_id)
    return {
        MARK: _(PINNED) if note.pinned else "",
        NAME: note.name,
        STARTED: local_time(run.created_at),
        STATE: run.state_label,
        RIGHT: None if line is None or line.right_share is None else 100 * line.right_share,
        RESULT: "" if line is None else line.line,
        MODEL: run.model,
        DATASET: run.dataset,
        UNLIKE: unlike,
        BEST_LOSS: "" if best is None else f"{best:.4f}",
        TIME: duration(run.status.elapsed_s) if run.status.elapsed_s else "",
        TAGS: " ".join(note.tags),
        NOTE: note.text,
        RUN_ID: run_id,
    }


@st.cache_data(max_entries=4, show_spinner=False)
def _cached_distinctions(root: str, run_ids: tuple[str, ...]) -> dict[str, str]:
    """Settings of a run never change."""
    return studio().runs.distinctions(run_ids)


@st.cache_data(max_entries=2000, show_spinner=False)
def _cached_best_loss(path: str, run_id: str, changed_ns: int) -> float | None:
    """Read again only when the log has changed."""
    return studio().runs.best_loss(run_id)
