"""What a run would take, measured on its first updates before it is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from mlx_finetuning.config import TrainConfig
from mlx_finetuning.ui.components.text import plain
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.units_ja import duration

ASKED = "estimate-of"


def draw_estimate(settings: TrainConfig) -> None:
    """On request: the measurement takes some seconds, and the device."""
    busy = studio().jobs.is_device_busy()
    clicked = st.button(
        "必要なメモリと時間を測る",
        icon=":material/speed:",
        disabled=busy,
        help="ほかの作業が終わると測れます。" if busy else "最初の数回を実際に計算して測ります。",
    )
    if clicked:
        st.session_state[ASKED] = settings
    if st.session_state.get(ASKED) == settings:
        with errors_shown():
            _draw(_measured(str(studio().workspace.root), settings))


@st.cache_data(max_entries=8, show_spinner="最初の数回を計算して測っています…")
def _measured(root: str, settings: TrainConfig) -> dict[str, Any]:
    return studio().training.estimate(settings).follow()


def _draw(found: Mapping[str, Any]) -> None:
    reason = plain(str(found["reason_ja"]))
    if not found["fits"]:
        st.error(f"この設定では学習できません。{reason}", icon=":material/memory:")
        return
    figures = {
        "必要なメモリ": f"{found['peak_memory_gb']:.2f} GB",
        "使えるメモリ": f"{found['available_gb']:.2f} GB",
        "予想時間": f"約{duration(found['total_s'])}",
        "おすすめの例の数": f"{found['recommended_batch_size']}",
    }
    with st.container(horizontal=True):
        for label, value in figures.items():
            st.metric(label, value, border=True, width=200)
    st.caption(f"{reason} 例の数は「1回の更新に使う例の数」（今は {found['batch_size']}）です。")
