"""学習."""

from __future__ import annotations

import streamlit as st

st.title("学習")
st.markdown("この画面はまだありません。ターミナルでは次のコマンドで使えます。")
st.code("mlx-finetuning train --dataset 名前", language=None)
