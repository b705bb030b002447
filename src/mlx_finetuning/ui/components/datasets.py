"""Which dataset a page begins with."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from mlx_finetuning.ui.frame import studio

PARAMETER = "dataset"
"""Of the address."""


def first_choice(names: Sequence[str]) -> int:
    """The index of the one that the address names, else of the one that was made last."""
    asked = st.query_params.get(PARAMETER, "")
    return names.index(asked if asked in names else max(names, key=_made))


def _made(name: str) -> int:
    path = studio().workspace.dataset(name).manifest
    return path.stat().st_mtime_ns if path.is_file() else 0
