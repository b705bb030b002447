"""Saved datasets: what is in them, exactly what training will see of a row, deletion and way back."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import streamlit as st

from mlx_finetuning.jobs.preview import Preview, PreviewToken
from mlx_finetuning.language import N_, _, name_in
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

DOWNLOADS = {"xlsx": N_("Excel（.xlsx）"), "csv": N_("CSV（.csv）")}
LEGEND = {"t s": N_("学習の対象"), "t": N_("読むだけ"), "t c": N_("切り捨て")}
"""Of tokens, by their class in the style."""
STYLE = """<style>
.tokens { line-height: 2.1; word-break: break-all; }
.tokens .t { border: 1px solid rgba(128,128,128,.35); border-radius: 4px; padding: 1px 2px; white-space: pre-wrap; }
.tokens .s { background: rgba(20,160,140,.28); }
.tokens .c { text-decoration: line-through; opacity: .45; }
</style>"""


def choose_dataset(entries: Sequence[DatasetEntry]) -> DatasetEntry:
    """A select box over `entries` (not empty), kept in the address."""
    names = [entry.name for entry in entries]
    name = st.selectbox(_("データセット"), names, index=first_choice(names), placeholder=_("選択"))
    chosen = entries[names.index(name)] if name in names else entries[0]
    st.query_params[PARAMETER] = chosen.name
    return chosen


def draw_summary(manifest: Mapping[str, Any]) -> None:
    """Rows of each split, kind, sources, and what was left out."""
    counts = manifest.get("counts", {})
    for column, (split, label) in zip(st.columns(3), SPLITS_JA.items(), strict=True):
        column.metric(_(label), _("{counts:,} 行").format(counts=counts.get(split, 0)), border=True)
    kind = _(KINDS_JA.get(str(manifest.get("kind")), ""))
    sources = _("、").join(
        PurePath(item.get("path", "")).name for item in manifest.get("sources", ())
    )
    goal = _(GOALS_JA.get(str(manifest.get("goal")), N_("記録なし")))
    st.caption(
        _("目的: {goal}　種類: {kind}　元のファイル: {sources}").format(
            goal=goal, kind=kind, sources=plain(sources)
        )
    )
    if manifest.get("dropped"):
        dropped = _("、").join(
            _("{short} {rows}行").format(short=short_ja(code), rows=rows)
            for code, rows in manifest["dropped"].items()
        )
        st.caption(_("除いた行: {dropped}").format(dropped=plain(dropped)))


def draw_journey(name: str) -> None:
    """The button from the dataset to a conversation, with the user's usual model."""
    own = dataclasses.replace(studio().preferences.read(), dataset=name, engine="mlx")
    usual = studio().training.preset(own, "usual")
    model = _("モデル「{shown_name}」に").format(shown_name=plain(shown_name(usual.model)))
    st.caption(
        _(
            "「おまかせで作る」は、{model}教え、確かめ、軽くして、対話できるところまで進めます。"
            "画面を閉じても続き、いつでも止められます。"
            "モデルや量を自分で選ぶときは「このデータセットで学習する」を使ってください。"
        ).format(model=model)
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        place = st.container(width="content")
        minutes = tuning.choose_minutes()
    if place.button(_("おまかせで作る"), icon=":material/auto_awesome:", type="primary"):
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
    model = first.selectbox(_("モデル"), models, key="preview-model", placeholder=_("選択"))
    row = second.number_input(
        _("元のファイルの行"),
        min_value=1,
        value=None,
        step=1,
        placeholder=_("最初の行"),
        key="preview-row",
    )
    if third.button(_("文面を見る"), icon=":material/visibility:", width="stretch"):
        st.session_state["preview-of"] = (name, model, row)
    asked_name, asked_model, asked_row = st.session_state.get("preview-of", ("", "", None))
    if asked_name == name:
        root = str(studio().workspace.root)
        changed_ns = studio().workspace.dataset(name).manifest.stat().st_mtime_ns
        with st.spinner(_("モデルのトークナイザーで調べています…")):
            preview = _cached_preview(root, name, asked_model, asked_row, changed_ns)
        _draw_preview(preview)


@st.cache_data(max_entries=8, show_spinner=False)
def _cached_preview(root: str, name: str, model: str, row: int | None, changed_ns: int) -> Preview:
    """Made anew when the dataset is."""
    return studio().data.preview(name, model, row).follow()


def _draw_preview(preview: Preview) -> None:
    row, totals = preview.row, preview.totals
    if totals.cut_rows:
        st.error(
            _(
                "長すぎて切り捨てられる行が {cut_rows:,} 行あります（{cut_rows_2:.1%}、上限 {max_length:,} トークン）。"
                "回答の終わりが切れる行は {answer_end_lost_rows:,} 行で、モデルは答え終わることを学べません。"
            ).format(
                cut_rows=totals.cut_rows,
                cut_rows_2=totals.cut_rows / totals.rows,
                max_length=preview.max_length,
                answer_end_lost_rows=totals.answer_end_lost_rows,
            ),
            icon=":material/content_cut:",
        )
    if totals.unused_rows:
        st.warning(
            _("学習の対象が残らない行が {unused_rows:,} 行あります。学習では使われません。").format(
                unused_rows=totals.unused_rows
            ),
            icon=":material/block:",
        )
    for text in preview.warnings:
        st.warning(text, icon=":material/warning:")
    if preview.tools_ignored:
        st.warning(_("このモデルの文面には、ツールの定義が入りません。"), icon=":material/build:")
    split = _(SPLITS_JA.get(row.split, row.split))
    st.markdown(
        _(
            "**{row}行目**（{split}）　{token_count:,} トークン、うち学習の対象 {supervised_tokens:,}"
        ).format(
            row=row.row,
            split=split,
            token_count=row.token_count,
            supervised_tokens=row.supervised_tokens,
        )
    )
    if preview.thinks:
        st.caption(_("考えた過程も学習します（考えてから答えるモデルになります）。"))
    if preview.label is not None:
        st.markdown(_("**○（よい回答）**") if preview.label else _("**×（よくない回答）**"))
    _draw_tokens(row.tokens)
    if preview.rejected is not None:
        st.markdown(_("**選ばれなかった回答**"))
        _draw_tokens(preview.rejected.tokens)
    for number, sequence in enumerate(preview.more, 2):
        st.markdown(
            _("**{number}つ目の回答**（このモデルの書式では、回答ごとに別に学習します）").format(
                number=number
            )
        )
        _draw_tokens(sequence.tokens)
    st.caption(
        _(
            "全体: {rows:,} 行、{tokens:,} トークン、学習の対象 {supervised_share:.1%}、最も長い行 {longest_tokens:,} トークン（{longest_row}行目）、1文字あたり {tokens_per_character} トークン。"
            "学習後に使える場所: {ends}"
        ).format(
            rows=totals.rows,
            tokens=totals.tokens,
            supervised_share=totals.supervised_share,
            longest_tokens=totals.longest_tokens,
            longest_row=totals.longest_row,
            tokens_per_character=totals.tokens_per_character,
            ends=_("、").join(preview.ends),
        )
    )


def _draw_tokens(tokens: Sequence[PreviewToken]) -> None:
    """Every token as a box; what the loss counts is coloured."""
    boxes = []
    for token in tokens:
        classes = "t" + " s" * token.supervised + " c" * token.cut
        text = html.escape(token.piece).replace("\n", "⏎<br>")
        boxes.append(f'<span class="{classes}" title="{token.id}">{text}</span>')
    legend = " ".join(f'<span class="{kind}">{_(name)}</span>' for kind, name in LEGEND.items())
    st.html(f'{STYLE}<div class="tokens"><p>{legend}</p>{"".join(boxes)}</div>')


def draw_downloads(name: str) -> None:
    """The whole dataset as a file, made on request: what cannot be written is said on the page."""
    with st.popover(_("ダウンロード"), icon=":material/download:"):
        st.markdown(
            _(
                "質問と回答、分割、グループを1つの表にします。直したあと「新しく作る」で読み込むと、"
                "同じ分け方のデータセットになります。"
            )
        )
        form = st.radio(
            _("形式"),
            list(DOWNLOADS),
            format_func=name_in(DOWNLOADS),
            key=f"download-form-{name}",
            horizontal=True,
        )
        if st.button(_("ファイルを作る"), key=f"download-make-{name}"):
            with errors_shown(), st.spinner(_("ファイルを作っています…")):
                content = studio().data.download(name, form)
                st.download_button(
                    _("{name}.{form} を受け取る").format(name=name, form=form),
                    content,
                    f"{name}.{form}",
                    icon=":material/download:",
                    on_click="ignore",
                )


def draw_deletion(name: str, trash: str) -> None:
    """`trash` is the view that a deleted dataset is found in."""
    with st.popover(_("ゴミ箱に移す"), icon=":material/delete:"):
        st.markdown(
            _("**{name}** を移します。あとで元に戻せます。学習の結果は残ります。").format(name=name)
        )
        if st.button(_("移す"), type="primary", key=f"delete-{name}"):
            with errors_shown():
                studio().data.delete(name)
                page = sitemap.page("dataset")
                st.switch_page(page, query_params={views.PARAMETER: trash})


def draw_trash(shown_in: str) -> None:
    """`shown_in` is the view that a restored dataset is shown in."""
    for one in shown_trash(studio().data.deleted()):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(
                _("**{name}**　:gray[{deleted_at} に削除]").format(
                    name=one.name, deleted_at=local_time(one.deleted_at)
                )
            )
            key = f"restore-{one.name}-{one.deleted_at}"
            if st.button(_("元に戻す"), icon=":material/undo:", key=key):
                with errors_shown():
                    studio().data.restore(one.name, one.deleted_at)
                    query = {views.PARAMETER: shown_in, PARAMETER: one.name}
                    st.switch_page(sitemap.page("dataset"), query_params=query)
