"""The way from data to a conversation: which steps are done, and which is next."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from mlx_finetuning.ui import sitemap


@dataclass(frozen=True)
class Step:
    page: str
    """A page of the sitemap."""
    title: str
    explanation: str
    done: bool


def draw_steps(steps: list[Step]) -> None:
    """One card per step; the first that is not done is the next one."""
    upcoming = next((step for step in steps if not step.done), None)
    for number, (step, column) in enumerate(zip(steps, st.columns(len(steps)), strict=True), 1):
        with column, st.container(border=True, height="stretch"):
            _draw(number, step, is_next=step is upcoming)


def _draw(number: int, step: Step, is_next: bool) -> None:
    mark = ":green[:material/check_circle:]" if step.done else f":gray[{number}]"
    st.markdown(f"{mark}　**{step.title}**")
    st.caption(step.explanation)
    label = "次はここ" if is_next else "開く"
    icon = ":material/arrow_forward:" if is_next else sitemap.ENTRIES[step.page].icon
    st.page_link(sitemap.page(step.page), label=label, icon=icon)
