"""Charts with Japanese axes and tooltips, with at most 1,000 points however long a run is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from mlx_finetuning.ui.components.curves import kept, smoothed

if TYPE_CHECKING:
    import altair as alt

Curve = tuple[Sequence[float], Sequence[float]]
"""Updates and values, of equal length."""
POINTS = 1000
HEIGHT = 320
FAINT = 0.3


def line_chart(
    curves: Mapping[str, Curve], y: str, faint: Sequence[str] = (), height: int = HEIGHT
) -> None:
    """One line per named curve over the updates; those named in `faint` are pale.

    Values that are not finite are left out. Long curves are thinned, so smooth them before.
    """
    import altair as alt

    limit = POINTS // max(len(curves), 1)
    layers = [
        _line(name, curve, y, limit, FAINT if name in faint else 1.0)
        for name, curve in curves.items()
    ]
    chart = (
        alt.layer(*layers)
        .properties(height=height)
        .configure_legend(title=None, orient="top", symbolOpacity=1.0)
        .interactive(bind_y=False)
    )
    st.altair_chart(chart, width="stretch", alt=f"{'、'.join(curves)}の折れ線グラフ")


def loss_chart(train: Curve, valid: Curve, smoothing: float) -> None:
    """Training loss, smoothed before it is thinned, the raw one pale, and validation loss."""
    name = "学習（平滑化）" if smoothing else "学習"
    curves: dict[str, Curve] = {name: (train[0], smoothed(train[1], smoothing)), "検証": valid}
    if smoothing:
        curves[_RAW] = train
    line_chart({name: curve for name, curve in curves.items() if curve[0]}, "損失", [_RAW])


_RAW = "学習（そのまま）"


def _line(name: str, curve: Curve, y: str, limit: int, opacity: float) -> alt.Chart:
    import altair as alt

    points = _points(curve, limit)
    mark: dict[str, Any] = {"point": len(points) <= 30, "strokeWidth": 2, "opacity": opacity}
    chart: alt.Chart = (
        alt.Chart(points)
        .mark_line(**mark)
        .encode(
            x=alt.X("x:Q", title="更新", axis=alt.Axis(format=",d", tickMinStep=1)),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False)),
            color=alt.ColorDatum(name),
            tooltip=[
                alt.Tooltip("x:Q", title="更新", format=","),
                alt.Tooltip("y:Q", title=name, format=".4g"),
            ],
        )
    )
    return chart


def _points(curve: Curve, limit: int) -> Any:
    """A table: it travels in binary, 16 bytes a point."""
    import pyarrow

    updates, values = curve
    at = [index for index in kept(len(updates), limit) if math.isfinite(values[index])]
    return pyarrow.table({"x": [updates[i] for i in at], "y": [values[i] for i in at]})
