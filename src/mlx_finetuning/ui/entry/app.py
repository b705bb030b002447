"""What `mlx-finetuning serve` has Streamlit run; the checkout's `app.py` is the same.

Streamlit looks for `st.App(` in the text of the file it is given.
"""

import streamlit as st

from mlx_finetuning.ui import downloads, server

app = st.App(
    server.SCRIPT,
    routes=(*server.ROUTES, *downloads.ROUTES),
    middleware=server.MIDDLEWARE,
    on_script_error=server.show_uncaught,
)
