"""Saved datasets: what is in them, and exactly what training will see of a row."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from mlx_finetuning.studio.data import DatasetEntry
from mlx_finetuning.ui.components.datasets import PARAMETER, first_choice
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.ui.messages_ja import KINDS_JA, SPLITS_JA


def choose_dataset(entries: Sequence[DatasetEntry]) -> DatasetEntry:
    names = [entry.name for entry in entries]
    name = st.selectbox("データセット", names, index=first_choice(names), placeholder="選択")
    chosen = entries[names.index(name)] if name in names else entries[0]
    st.query_params[PARAMETER] = chosen.name
    return chosen


def draw_summary(manifest: Mapping[str, Any]) -> None:
    counts = manifest.get("counts", {})
    for place, (split, word) in zip(st.columns(3), SPLITS_JA.items(), strict=True):
        place.metric(word, f"{counts.get(split, 0):,} 行", border=True)
    kind = KINDS_JA.get(str(manifest.get("kind")), "")
    sources = "、".join(str(item.get("path", "")) for item in manifest.get("sources", ()))
    st.caption(f"種類: {kind}　元のファイル: {plain(sources)}")
    dropped = manifest.get("dropped") or {}
    if dropped:
        words = "、".join(f"{code} {rows}行" for code, rows in dropped.items())
        st.caption(f"除いた行: {plain(words)}")


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
    asked_name, *asked = st.session_state.get("preview-of", ("", "", None))
    if asked_name == name:
        root = str(studio().workspace.root)
        _draw_preview(_preview(root, name, asked[0], asked[1], _stamp(name)))


def _stamp(name: str) -> int:
    """Changes when the dataset is made anew."""
    return studio().workspace.dataset(name).manifest.stat().st_mtime_ns


@st.cache_data(max_entries=8, show_spinner="モデルのトークナイザーで調べています…")
def _preview(root: str, name: str, model: str, row: int | None, stamp: int) -> dict[str, Any]:
    return studio().data.preview(name, model, row).follow()


def _draw_preview(shown: Mapping[str, Any]) -> None:
    row, totals = shown["row"], shown["totals"]
    _draw_warnings(shown)
    split = SPLITS_JA.get(row["split"], row["split"])
    st.markdown(
        f"**{row['row']}行目**（{split}）　{row['token_count']:,} トークン、"
        f"うち学習の対象 {row['supervised_tokens']:,}"
    )
    if shown["thinks"]:
        st.caption("考えた過程も学習します（考えてから答えるモデルになります）。")
    _draw_tokens(row["tokens"])
    if shown["rejected"] is not None:
        st.markdown("**選ばれなかった回答**")
        _draw_tokens(shown["rejected"]["tokens"])
    for at, one in enumerate(shown["more"], 2):
        st.markdown(f"**{at}つ目の回答**（このモデルの書式では、回答ごとに別に学習します）")
        _draw_tokens(one["tokens"])
    st.caption(
        f"全体: {totals['rows']:,} 行、{totals['tokens']:,} トークン、"
        f"学習の対象 {totals['supervised_share']:.1%}、最も長い行 {totals['longest_tokens']:,} トークン"
        f"（{totals['longest_row']}行目）、1文字あたり {totals['tokens_per_character']} トークン。"
        f"学習後に使える場所: {'、'.join(shown['ends'])}"
    )


def _draw_warnings(shown: Mapping[str, Any]) -> None:
    totals = shown["totals"]
    if totals["cut_rows"]:
        st.error(
            f"長すぎて切り捨てられる行が {totals['cut_rows']:,} 行あります"
            f"（{totals['cut_rows'] / totals['rows']:.1%}、上限 {shown['max_length']:,} トークン）。"
            f"回答の終わりが切れる行は {totals['answer_end_lost_rows']:,} 行で、モデルは答え終わることを学べません。",
            icon=":material/content_cut:",
        )
    if totals["unused_rows"]:
        st.warning(
            f"学習の対象が残らない行が {totals['unused_rows']:,} 行あります。学習では使われません。",
            icon=":material/block:",
        )
    for text in shown["warnings"]:
        st.warning(text, icon=":material/warning:")
    if shown["tools_ignored"]:
        st.warning("このモデルの文面には、ツールの定義が入りません。", icon=":material/build:")


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


def _draw_tokens(tokens: Sequence[Mapping[str, Any]]) -> None:
    """Every token as a box; what the loss counts is coloured."""
    boxes = "".join(_box(token) for token in tokens)
    st.html(f'{STYLE}<div class="tokens"><p>{LEGEND}</p>{boxes}</div>')


def _box(token: Mapping[str, Any]) -> str:
    classes = "t" + " s" * token["supervised"] + " c" * token["cut"]
    piece = html.escape(token["piece"]).replace("\n", "⏎<br>")
    return f'<span class="{classes}" title="{token["id"]}">{piece}</span>'
