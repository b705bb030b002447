"""The models in Ollama: seen, copied, deleted."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units import local_time, size


def draw_models() -> None:
    """All models as a table, and what can be done with one of them."""
    models = studio().ollama.list()
    if not models:
        empty_state(_("Ollamaにモデルはありません。上の「登録」で、学習したモデルを登録できます。"))
        return
    rows = [
        {
            _("名前"): model.name,
            _("大きさ"): size(model.size_bytes),
            _("種類"): model.quantization,
            _("更新"): local_time(model.modified_at),
        }
        for model in models
    ]
    show_table(rows)
    names = [model.name for model in models]
    name = st.selectbox(_("モデル"), names, key="ollama-model", placeholder=_("選択")) or names[0]
    with st.container(horizontal=True), errors_shown():
        with st.popover(_("別の名前でも使う"), icon=":material/content_copy:"):
            copied = st.text_input(_("新しい名前"), key=f"copy-{name}", placeholder=_("例: my-faq"))
            if st.button(_("名前を付ける"), type="primary", disabled=not copied.strip()):
                studio().ollama.copy(name, copied.strip())
                st.toast(_("名前を付けました。"), icon=":material/check:")
                st.rerun()
        with st.popover(_("Ollamaから消す"), icon=":material/delete:"):
            st.markdown(
                _("**{name}** を消します。学習の結果とGGUFファイルは残ります。").format(
                    name=plain(name)
                )
            )
            if st.button(_("消す"), type="primary", key="delete-model"):
                studio().ollama.delete(name)
                st.toast(_("消しました。"), icon=":material/check:")
                st.rerun()
