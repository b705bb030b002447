"""The seven pages: file, title and icon, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from mlx_finetuning.language import N_, _

_FOLDER = Path(__file__).parent / "pages"


@dataclass(frozen=True)
class Entry:
    """A page as navigation and links show it."""

    title_ja: str
    icon: str

    @property
    def title(self) -> str:
        """In the current language."""
        return _(self.title_ja, "page")


ENTRIES = {
    "home": Entry(N_("ホーム", "page"), ":material/home:"),
    "dataset": Entry(N_("データセット", "page"), ":material/table_view:"),
    "training": Entry(N_("学習", "page"), ":material/model_training:"),
    "experiments": Entry(N_("実験", "page"), ":material/science:"),
    "quantization": Entry(N_("軽くする", "page"), ":material/compress:"),
    "chat": Entry(N_("対話", "page"), ":material/chat:"),
    "settings": Entry(N_("設定", "page"), ":material/settings:"),
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
