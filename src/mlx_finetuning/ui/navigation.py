"""The pages, and the frame every page is drawn in. Run anew by Streamlit at each interaction."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.ui.frame import errors_shown

_PAGES = Path(__file__).parent / "pages"


def run() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="mlx-finetuning", page_icon="🎓", layout="wide")
    page = st.navigation(
        [st.Page(_PAGES / "home.py", title="ホーム", icon=":material/home:", default=True)]
    )
    with errors_shown():
        page.run()
