"""Saved datasets: what is in them, exactly what training will see of a row, deletion and way back."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import streamlit as st

from mlx_finetuning.jobs.preview import Preview, PreviewToken
from mlx_finetuning.studio.data import DatasetEntry
from mlx_finetuning.ui import sitemap
from mlx_finetuning.ui.components import tuning, views
from mlx_finetuning.ui.components.datasets import PARAMETER, first_choice
from mlx_finetuning.ui.components.empty import shown_trash
from mlx_finetuning.ui.components.runs import PARAMETER as RUN
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.dataset.findings import short_ja
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.ui.messages_ja import KINDS_JA
from mlx_finetuning.ui.training.models import shown_name
from mlx_finetuning.utils.goals import GOALS_JA, SPLITS_JA
from mlx_finetuning.utils.units import local_time

DOWNLOADS = {"xlsx": "Excel（.xlsx）", "csv": "CSV（.csv）"}
LEGEND = (
    '<span class="t s">学習の対象</span> <span class="t">読むだけ</span> '
    '<span class="t c">切り捨て</span>'
)
STYLE = """<style>
.tokens { line-height: 2.1; word-break: break-all; }
.tokens .t { border: 1px solid rgba(128,128,128,.35); border-radius: 4px; padding: 1px 2px; white-space: pre-wrap; }
.tokens .s { background: rgba(20,160,140,.28); }
.tokens .c { text-decoration: line-through; opacity: .45; }
</style>"""


def choose_dataset(entries: Sequence[DatasetEntry]) -> DatasetEntry:
    """A select box over `entries` (not empty), kept in the address."""
    names = [entry.name for entry in entries]
    name = st.selectbox("データセット", names, index=first_choice(names), placeholder="選択")
    chosen = entries[names.index(name)] if name in names else entries[0]
    st.query_params[PARAMETER] = chosen.name
    return chosen


def draw_summary(manifest: Mapping[str, Any]) -> None:
    """Rows of each split, kind, sources, and what was left out."""
    counts = manifest.get("counts", {})
    for column, (split, label) in zip(st.columns(3), SPLITS_JA.items(), strict=True):
        column.metric(label, f"{counts.get(split, 0):,} 行", border=True)
    kind = KINDS_JA.get(str(manifest.get("kind")), "")
    sources = "、".join(PurePath(item.get("path", "")).name for item in manifest.get("sources", ()))
    goal = GOALS_JA.get(str(manifest.get("goal")), "記録なし")
    st.caption(f"目的: {goal}　種類: {kind}　元のファイル: {plain(sources)}")
    if manifest.get("dropped"):
        dropped = "、".join(
            f"{short_ja(code)} {rows}行" for code, rows in manifest["dropped"].items()
        )
        st.caption(f"除いた行: {plain(dropped)}")


def draw_journey(name: str) -> None:
    """The button from the dataset to a conversation, with the user's usual model."""
    own = dataclasses.replace(studio().preferences.read(), dataset=name, engine="mlx")
    usual = studio().training.preset(own, "usual")
    model = f"モデル「{plain(shown_name(usual.model))}」に"
    st.caption(
        f"「おまかせで作る」は、{model}教え、確かめ、軽くして、対話できるところまで進めます。"
        "画面を閉じても続き、いつでも止められます。"
        "モデルや量を自分で選ぶときは「このデータセットで学習する」を使ってください。"
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        place = st.container(width="content")
        minutes = tuning.choose_minutes()
    if place.button("おまかせで作る", icon=":material/auto_awesome:", type="primary"):
        with errors_shown():
            if minutes is None:
                run_id = studio().auto.start(usual)
                st.switch_page(sitemap.page("training"), query_params={RUN: run_id})
            studio().auto.start_tuned(usual, minutes)
            st.rerun()


def draw_preview(name: str) -> None:
    """The exact text, tokens and loss mask, on request: the model's tokenizer has to be loaded."""
    models = [model.name for model in studio().models.list()]
    first, second, third = st.columns([2, 1, 1], vertical_alignment="bottom")
    model = first.selectbox("モデル", models, key="preview-model", placeholder="選択")
    row = second.number_input(
        "元のファイルの行",
        min_value=1,
        value=None,
        step=1,
        placeholder="最初の行",
        key="preview-row",
    )
    if third.button("文面を見る", icon=":material/visibility:", width="stretch"):
        st.session_state["preview-of"] = (name, model, row)
    asked_name, asked_model, asked_row = st.session_state.get("preview-of", ("", "", None))
    if asked_name == name:
        root = str(studio().workspace.root)
        changed_ns = studio().workspace.dataset(name).manifest.stat().st_mtime_ns
        _draw_preview(_cached_preview(root, name, asked_model, asked_row, changed_ns))


@st.cache_data(max_entries=8, show_spinner="モデルのトークナイザーで調べています…")
def _cached_preview(root: str, name: str, model: str, row: int | None, changed_ns: int) -> Preview:
    """Made anew when the dataset is."""
    return studio().data.preview(name, model, row).follow()


def _draw_preview(preview: Preview) -> None:
    row, totals = preview.row, preview.totals
    if totals.cut_rows:
        st.error(
            f"長すぎて切り捨てられる行が {totals.cut_rows:,} 行あります"
            f"（{totals.cut_rows / totals.rows:.1%}、上限 {preview.max_length:,} トークン）。"
            f"回答の終わりが切れる行は {totals.answer_end_lost_rows:,} 行で、モデルは答え終わることを学べません。",
            icon=":material/content_cut:",
        )
    if totals.unused_rows:
        st.warning(
            f"学習の対象が残らない行が {totals.unused_rows:,} 行あります。学習では使われません。",
            icon=":material/block:",
        )
    for text in preview.warnings:
        st.warning(text, icon=":material/warning:")
    if preview.tools_ignored:
        st.warning("このモデルの文面には、ツールの定義が入りません。", icon=":material/build:")
    split = SPLITS_JA.get(row.split, row.split)
    st.markdown(
        f"**{row.row}行目**（{split}）　{row.token_count:,} トークン、"
        f"うち学習の対象 {row.supervised_tokens:,}"
    )
    if preview.thinks:
        st.caption("考えた過程も学習します（考えてから答えるモデルになります）。")
    if preview.label is not None:
        st.markdown("**○（よい回答）**" if preview.label else "**×（よくない回答）**")
    _draw_tokens(row.tokens)
    if preview.rejected is not None:
        st.markdown("**選ばれなかった回答**")
        _draw_tokens(preview.rejected.tokens)
    for number, sequence in enumerate(preview.more, 2):
        st.markdown(f"**{number}つ目の回答**（このモデルの書式では、回答ごとに別に学習します）")
        _draw_tokens(sequence.tokens)
    st.caption(
        f"全体: {totals.rows:,} 行、{totals.tokens:,} トークン、"
        f"学習の対象 {totals.supervised_share:.1%}、最も長い行 {totals.longest_tokens:,} トークン"
        f"（{totals.longest_row}行目）、1文字あたり {totals.tokens_per_character} トークン。"
        f"学習後に使える場所: {'、'.join(preview.ends)}"
    )


def _draw_tokens(tokens: Sequence[PreviewToken]) -> None:
    """Every token as a box; what the loss counts is coloured."""
    boxes = []
    for token in tokens:
        classes = "t" + " s" * token.supervised + " c" * token.cut
        text = html.escape(token.piece).replace("\n", "⏎<br>")
        boxes.append(f'<span class="{classes}" title="{token.id}">{text}</span>')
    st.html(f'{STYLE}<div class="tokens"><p>{LEGEND}</p>{"".join(boxes)}</div>')


def draw_downloads(name: str) -> None:
    """The whole dataset as a file, made on request: what cannot be written is said on the page."""
    with st.popover("ダウンロード", icon=":material/download:"):
        st.markdown(
            "質問と回答、分割、グループを1つの表にします。直したあと「新しく作る」で読み込むと、"
            "同じ分け方のデータセットになります。"
        )
        form = st.radio(
            "形式",
            list(DOWNLOADS),
            format_func=DOWNLOADS.__getitem__,
            key=f"download-form-{name}",
            horizontal=True,
        )
        if st.button("ファイルを作る", key=f"download-make-{name}"):
            with errors_shown(), st.spinner("ファイルを作っています…"):
                content = studio().data.download(name, form)
                st.download_button(
                    f"{name}.{form} を受け取る",
                    content,
                    f"{name}.{form}",
                    icon=":material/download:",
                    on_click="ignore",
                )


def draw_deletion(name: str, trash: str) -> None:
    """`trash` is the view that a deleted dataset is found in."""
    with st.popover("ゴミ箱に移す", icon=":material/delete:"):
        st.markdown(f"**{name}** を移します。あとで元に戻せます。学習の結果は残ります。")
        if st.button("移す", type="primary", key=f"delete-{name}"):
            with errors_shown():
                studio().data.delete(name)
                page = sitemap.page("dataset")
                st.switch_page(page, query_params={views.PARAMETER: trash})


def draw_trash(shown_in: str) -> None:
    """`shown_in` is the view that a restored dataset is shown in."""
    for one in shown_trash(studio().data.deleted()):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{one.name}**　:gray[{local_time(one.deleted_at)} に削除]")
            key = f"restore-{one.name}-{one.deleted_at}"
            if st.button("元に戻す", icon=":material/undo:", key=key):
                with errors_shown():
                    studio().data.restore(one.name, one.deleted_at)
                    query = {views.PARAMETER: shown_in, PARAMETER: one.name}
                    st.switch_page(sitemap.page("dataset"), query_params=query)
