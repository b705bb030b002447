"""The frame every page is drawn in. Run anew by Streamlit at each interaction."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.language import _
from mlx_finetuning.ui import notifications, server, sitemap
from mlx_finetuning.ui.components import stepper
from mlx_finetuning.ui.frame import errors_shown, studio
from mlx_finetuning.utils.host_guard import is_loopback

SHOWN = "shown-page"
"""Session state: the page at the last drawing."""
# On a phone the menu lies over the page that was chosen in it, and Streamlit leaves it there.
_CLOSE_MENU = """if (window.innerWidth < 768) document.querySelector(
  '[data-testid="stSidebarCollapseButton"] button[aria-expanded="true"]')?.click();"""
ICON = Path(__file__).parent / "icon.svg"
STYLE = Path(__file__).parent / "style.css"


def run() -> None:
    """Draw the page that the address names."""
    studio().preferences.speak()
    st.set_page_config(page_icon=str(ICON), layout="wide")
    chosen = st.navigation([sitemap.page(name) for name in sitemap.ENTRIES], expanded=True)
    st.html(STYLE)
    address = server.bound_address()
    if not is_loopback(address):
        st.warning(
            _(
                "この画面は、ほかの機器からも開けます（待ち受け先: {address}）。"
                "同じネットワークの誰でも、データを見たり学習を止めたりできます。"
                "意図したものでなければ、待ち受け先を指定せずに起動し直してください。"
            ).format(address=address),
            icon=":material/lan:",
        )
    # What comes and goes has containers of its own: where the page's place changes, the browser
    # draws it anew, and what is open in it closes.
    with st.container():
        if st.session_state.get(SHOWN) != chosen.url_path:
            st.session_state[SHOWN] = chosen.url_path
            # Each page's own, or the browser takes it for the one that it has run already.
            script = f"<script>/* {chosen.url_path} */ {_CLOSE_MENU}</script>"
            st.html(script, unsafe_allow_javascript=True)
    with st.container(), errors_shown():
        notifications.watch(chosen.title)
    with st.container(), errors_shown():
        stepper.draw_steps(chosen.url_path or "home")
    with errors_shown():
        chosen.run()
