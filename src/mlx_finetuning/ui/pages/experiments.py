"""実験."""

from __future__ import annotations

import streamlit as st

st.title("実験")
st.markdown("この画面はまだありません。ターミナルでは次のコマンドで使えます。")
st.code("mlx-finetuning runs list", language=None)
