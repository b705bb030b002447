"""The states of jobs as coloured badges, the same on every page."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from mlx_finetuning.jobs.status import JobState

Color = Literal["red", "orange", "blue", "green", "gray"]

LOOKS: dict[str, tuple[Color, str]] = {
    "queued": ("gray", "hourglass_empty"),
    "running": ("blue", "play_circle"),
    "stopping": ("orange", "stop_circle"),
    "done": ("green", "check_circle"),
    "failed": ("red", "error"),
    "cancelled": ("gray", "stop_circle"),
    "paused": ("orange", "pause_circle"),
    "interrupted": ("orange", "power_off"),
    "stalled": ("orange", "sync_problem"),
    "damaged": ("red", "broken_image"),
    "newer": ("gray", "update"),
}


def state_badge(state: str, simulated: bool = False) -> None:
    """`state` is a `JobStatus.state`."""
    color, icon = LOOKS[state]
    with st.container(horizontal=True, gap="small", width="content"):
        st.badge(JobState(state).label_ja, icon=f":material/{icon}:", color=color)
        if simulated:
            st.badge("シミュレーション", icon=":material/theater_comedy:", color="violet")
