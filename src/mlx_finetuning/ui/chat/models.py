"""The models in Ollama: seen, copied, deleted."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.ui.components.empty import empty_state
from mlx_finetuning.ui.components.tables import show_table
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units import local_time, size


def draw_models() -> None:
    """All models as a table, and what can be done with one of them."""
    models = studio().ollama.list()
    if not models:
        empty_state("Ollamaにモデルはありません。上の「登録」で、学習したモデルを登録できます。")
        return
    rows = [
        {
            "名前": model.name,
            "大きさ": size(model.size_bytes),
            "種類": model.quantization,
            "更新": local_time(model.modified_at),
        }
        for model in models
    ]
    show_table(rows)
    names = [model.name for model in models]
    name = st.selectbox("モデル", names, key="ollama-model", placeholder="選択") or names[0]
    with st.container(horizontal=True), errors_shown():
        with st.popover("別の名前でも使う", icon=":material/content_copy:"):
            copied = st.text_input("新しい名前", key=f"copy-{name}", placeholder="例: my-faq")
            if st.button("名前を付ける", type="primary", disabled=not copied.strip()):
                studio().ollama.copy(name, copied.strip())
                st.toast("名前を付けました。", icon=":material/check:")
                st.rerun()
        with st.popover("Ollamaから消す", icon=":material/delete:"):
            st.markdown(f"**{plain(name)}** を消します。学習の結果とGGUFファイルは残ります。")
            if st.button("消す", type="primary", key="delete-model"):
                studio().ollama.delete(name)
                st.toast("消しました。", icon=":material/check:")
                st.rerun()
