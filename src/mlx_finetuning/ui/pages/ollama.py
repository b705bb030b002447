"""Ollama."""

from __future__ import annotations

import streamlit as st

st.title("Ollama")
st.markdown("この画面はまだありません。ターミナルでは次のコマンドで使えます。")
st.code("mlx-finetuning chat 実験ID", language=None)
