"""Having a model make pairs of the documents: its choice, the start, and how far it is."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.documents.plan import GenerateSettings
from mlx_finetuning.language import _, name_in
from mlx_finetuning.ui.components.generators import choose_generator_model
from mlx_finetuning.ui.components.jobs import draw_latest
from mlx_finetuning.ui.frame import studio
from mlx_finetuning.utils.text_generator import ENGINES_JA, GeneratorChoice


def draw_making(paths: list[Path]) -> None:
    """The form that starts it, or what goes on."""
    if draw_latest("", ("generate",)):
        st.caption(_("止めても、作った組は残ります。同じ文書と設定で始めると、続きから作ります。"))
        return
    with st.form("generate", border=False):
        left, right = st.columns(2)
        name = left.text_input(
            _("データセットの名前"),
            studio().data.suggested_name(paths[0]),
            help=_("英小文字・数字・ハイフンだけの64文字以内"),
        )
        model = choose_generator_model(
            right,
            _("質問を作るモデル"),
            "generate-model",
            _("選ぶか、名前を書いてください"),
            _("大きなモデルほど、使える組が増えます。"),
        )
        with st.expander(_("そのほかの設定"), icon=":material/tune:"):
            engine = st.selectbox(
                _("モデルの動かし方"), list(ENGINES_JA), format_func=name_in(ENGINES_JA)
            )
            address = st.text_input(
                _("OpenAI互換のサーバーの住所"),
                help=_(
                    "書くと、文書の文章がそのサーバーへ送られます。空なら、このマシンの中だけで作ります。"
                ),
            )
            share = st.number_input(_("作る数の割合"), 0.1, 5.0, 1.0, 0.1)
            seed = st.number_input(_("乱数の種"), 0, 2**31 - 1, 0)
            asks_model = st.checkbox(
                _("資料を見せてと見せずにモデルに聞いて、確かめる（時間は2〜3倍）")
            )
            replaces = st.checkbox(_("同じ名前のものを、始めから作り直す"))
        if st.form_submit_button(
            _("質問と回答を作る"), type="primary", icon=":material/auto_awesome:"
        ):
            choice = GeneratorChoice(model, str(engine), address.strip())
            documents = tuple(map(str, paths))
            studio().documents.generate(
                GenerateSettings(
                    documents, name, choice, int(seed), float(share), asks_model, replaces
                )
            )
            st.rerun()
