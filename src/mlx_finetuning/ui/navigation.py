"""The frame every page is drawn in. Run anew by Streamlit at each interaction."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from mlx_finetuning.ui import notifications, server, sitemap
from mlx_finetuning.ui.components import stepper
from mlx_finetuning.ui.components.form import keep_inputs
from mlx_finetuning.ui.frame import errors_shown
from mlx_finetuning.utils.host_guard import is_loopback

# Streamlit's frame speaks English only: the link that keyboards reach first, and what it says while
# a page is drawn for long or the server is away. Its words are covered by these.
_FRAME_IN_JAPANESE = """<style>
[data-testid="stSkipToContent"], [data-testid="stConnectionStatus"] label,
[data-testid="stStatusWidget"] button { font-size: 0; }
[data-testid="stSkipToContent"]::after { content: "本文へ移る"; font-size: 0.95rem; }
[data-testid="stConnectionStatus"] label::after {
  content: "サーバーにつないでいます"; font-size: 0.9rem;
}
[data-testid="stStatusWidget"] button::after { content: "停止"; font-size: 0.9rem; }
</style>"""
ICON = Path(__file__).parent / "icon.svg"


def run() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_icon=str(ICON), layout="wide")
    chosen = st.navigation([sitemap.page(name) for name in sitemap.ENTRIES], expanded=True)
    st.html(_FRAME_IN_JAPANESE)
    address = server.bound_address()
    if not is_loopback(address):
        st.warning(
            f"この画面は、ほかの機器からも開けます（待ち受け先: {address}）。"
            "同じネットワークの誰でも、データを見たり学習を止めたりできます。"
            "意図したものでなければ、待ち受け先を指定せずに起動し直してください。",
            icon=":material/lan:",
        )
    with errors_shown():
        notifications.watch(chosen.title)
    with errors_shown():
        stepper.draw_steps(chosen.url_path or "home")
    if chosen.url_path != "training":
        keep_inputs()
    with errors_shown():
        chosen.run()
