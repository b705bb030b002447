"""Rows made of a saved dataset's own: started, followed, accepted or rejected one by one, added."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA
from mlx_finetuning.data_processor.wordings.made import (
    MadeRow,
    MadeRows,
    RefuseConfig,
    RewordConfig,
)
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.language import N_, _, name_in
from mlx_finetuning.ui.components import jobs
from mlx_finetuning.ui.components.generators import choose_generator_model
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.text_generator import ENGINES_JA, GeneratorChoice

CHOSEN = N_("足す")


def draw_made_rows(name: str) -> str | None:
    """The forms and what they came to; the name of a dataset that was just made, or None."""
    st.header(_("行を増やす"))
    with st.expander(_("聞き方の言い換えを作る"), icon=":material/edit_note:"):
        _draw_reword(name)
    with st.expander(
        _("データにない質問を断らせる（わかりません）"), icon=":material/do_not_disturb_on:"
    ):
        _draw_refuse(name)
    started = studio().wordings.jobs(name)
    if not started:
        return None
    job = started[0]
    if job.status.state != "done":
        jobs.draw_job("", job)
        label, tip = _("続きから作る"), _("作った分は残っています")
        if not job.status.is_living and st.button(label, icon=":material/resume:", help=tip):
            studio().wordings.resume(job.name)
            st.rerun()
        return None
    return _draw_rows(name, job)


def _draw_generator(key: str) -> GeneratorChoice:
    """Which model makes rows beside the rules; none unless it is chosen."""
    left, middle, right = st.columns(3)
    model = choose_generator_model(left, _("モデル"), f"{key}-model", _("空なら規則だけで作ります"))
    engine = middle.selectbox(
        _("モデルを動かすもの"),
        [*ENGINES_JA],
        format_func=name_in(ENGINES_JA),
        key=f"{key}-engine",
    )
    address = right.text_input(
        _("サーバーの住所"),
        key=f"{key}-address",
        placeholder="http://127.0.0.1:1234/v1",
        help=_(
            "OpenAI互換のサーバーを使うときだけ。鍵は環境変数 MLX_FINETUNING_API_KEY で渡します"
        ),
    ).strip()
    choice = GeneratorChoice(model, engine, address)
    with errors_shown():
        if warning := studio().wordings.leaves_machine(choice):
            st.warning(plain(warning), icon=":material/outgoing_mail:")
    return choice


def _draw_reword(name: str) -> None:
    st.caption(
        _(
            "同じ答えの、別の聞き方を作ります。元の質問と同じ組になるので、教える行とテストの行に混ざりません。"
        )
    )
    kinds = st.multiselect(
        _("言い換え方"),
        [*KINDS_JA],
        [*KINDS_JA],
        format_func=name_in(KINDS_JA),
        key="reword-kinds",
        placeholder=_("選択"),
    )
    per_kind = st.number_input(_("言い換え方ごとの数"), 1, 10, 1, key="reword-per-kind")
    choice = _draw_generator("reword")
    check = bool(choice.model) and st.checkbox(
        _("元の答えを見せたモデルが、同じに答えるかも確かめる"), key="reword-check"
    )
    if st.button(_("言い換えを作る"), icon=":material/edit_note:", type="primary"):
        with errors_shown():
            settings = RewordConfig(
                name, tuple(kinds), int(per_kind), generator=choice, check=check
            )
            studio().wordings.reword(settings)
            st.rerun()


def _draw_refuse(name: str) -> None:
    st.caption(
        _(
            "データに答えのない、よく似た質問を作り、断る答えを教えます。4分の1は教えず、成果を確かめるのに使います。"
        )
    )
    share = st.slider(
        _("断る質問の割合（%）"),
        1,
        50,
        round(100 * RefuseConfig.share),
        key="refuse-share",
        help=_(
            "足した後の全体に対して。大きいほどよく断り、教えていない聞き方まで断ることも増えます"
        ),
    )
    refusal = st.text_input(
        _("断る文"), key="refuse-text", placeholder=_("空なら、データの口調に合わせます")
    ).strip()
    choice = _draw_generator("refuse")
    if st.button(_("データにない質問を作る"), icon=":material/do_not_disturb_on:", type="primary"):
        with errors_shown():
            settings = RefuseConfig(name, share / 100, refusal, generator=choice)
            studio().wordings.refuse(settings)
            st.rerun()


def _draw_rows(name: str, job: LaterJob) -> str | None:
    made = studio().wordings.rows(job.name)
    st.subheader(_("作った行"))
    failed = sum(bool(row.problems) for row in made.rows)
    st.caption(
        _(
            "{rows_count:,} 行を作り、{failed:,} 行が検査に通りませんでした。足す行を選んでください。"
        ).format(rows_count=len(made.rows), failed=failed)
    )
    rows = sorted(made.rows, key=lambda row: not row.problems)  # what needs a look comes first
    shown = [
        {
            _(CHOSEN): not row.problems,
            _("元の行"): row.row,
            _("種類"): _(row.kind_ja),
            _("質問"): row.question,
            _("答え"): row.answer,
            _("作ったもの"): row.made_by,
            _("理由"): _("。").join(row.problems),
        }
        for row in rows
    ]
    table = st.data_editor(
        shown,
        hide_index=True,
        disabled=[_("元の行"), _("種類"), _("質問"), _("答え"), _("作ったもの"), _("理由")],
        key=f"made-{job.name}",
        placeholder="—",
    )
    accepted = [row for row, line in zip(rows, table, strict=True) if line[_(CHOSEN)]]
    return _draw_adding(name, made, accepted)


def _draw_adding(name: str, made: MadeRows, accepted: Sequence[MadeRow]) -> str | None:
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    chosen = left.text_input(
        _("新しいデータセットの名前"),
        f"{name[:56]}-more",
        key=f"made-name-{name}",
        help=_("今のデータセットも残ります。同じ名前にすると、今の版はゴミ箱に移ります"),
    ).strip()
    label = _("{accepted_count:,} 行を足して保存").format(accepted_count=len(accepted))
    is_asked = right.button(
        label, icon=":material/playlist_add:", type="primary", disabled=not accepted
    )
    if not is_asked:
        return None
    with errors_shown(), st.spinner(_("データセットを作っています…")):
        return studio().wordings.add(made, accepted, chosen).name
    return None
