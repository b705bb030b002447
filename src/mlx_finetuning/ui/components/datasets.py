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
    if asked in names:
        return names.index(asked)
    manifests = [studio().workspace.dataset(name).manifest for name in names]
    changed_ns = [path.stat().st_mtime_ns if path.is_file() else 0 for path in manifests]
    return changed_ns.index(max(changed_ns))
