"""量子化."""

from __future__ import annotations

import streamlit as st

st.title("量子化")
st.markdown("この画面はまだありません。ターミナルでは次のコマンドで使えます。")
st.code("mlx-finetuning export 実験ID", language=None)
