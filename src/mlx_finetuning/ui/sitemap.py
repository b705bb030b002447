"""The seven pages: file, title and icon, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

_FOLDER = Path(__file__).parent / "pages"


@dataclass(frozen=True)
class Entry:
    """A page as navigation and links show it."""

    title: str
    icon: str


ENTRIES = {
    "home": Entry("ホーム", ":material/home:"),
    "dataset": Entry("データセット", ":material/table_view:"),
    "training": Entry("学習", ":material/model_training:"),
    "quantization": Entry("軽くする", ":material/compress:"),
    "chat": Entry("対話", ":material/chat:"),
    "experiments": Entry("実験", ":material/science:"),
    "settings": Entry("設定", ":material/settings:"),
}
"""By the name of the page's file, in the order of the work."""


def page(name: str) -> StreamlitPage:
    """The page for navigation, links and `st.switch_page`; equal names are the same page."""
    entry = ENTRIES[name]
    return st.Page(
        _FOLDER / f"{name}.py",
        title=entry.title,
        icon=entry.icon,
        url_path=None if name == "home" else name,
        default=name == "home",
    )
