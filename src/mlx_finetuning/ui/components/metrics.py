"""Metrics logs, kept between looks, so that each line is read once whoever looks."""

from __future__ import annotations

import streamlit as st

from mlx_finetuning.jobs.metrics import Metrics
from mlx_finetuning.ui.frame import studio


def metrics_of(run_id: str) -> Metrics:
    """The run's metrics as they are now. Raises RunNotFound."""
    metrics = _cached_reader(str(studio().workspace.root), run_id)
    metrics.refresh()
    return metrics


@st.cache_resource(max_entries=16, show_spinner=False)
def _cached_reader(root: str, run_id: str) -> Metrics:
    return studio().runs.metrics_reader(run_id)
