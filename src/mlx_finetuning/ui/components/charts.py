"""Charts with Japanese axes and tooltips: smoothed over all points, then thinned to at most 1,000,
however long a run is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import streamlit as st

from mlx_finetuning.language import _

Curve = tuple[Sequence[float], Sequence[float]]
"""Updates and values, of equal length."""
POINTS = 1000
HEIGHT = 320
FAINT = 0.3
"""Opacity of a raw curve behind its smoothed one."""


def line_chart(curves: Mapping[str, Curve], y: str, faint: Sequence[str] = ()) -> None:
    """One line per named curve over the updates; those named in `faint` are pale.

    Values that are not finite are left out. Long curves are thinned, so smooth them before.
    """
    import altair as alt
    import pyarrow

    limit = POINTS // max(len(curves), 1)
    layers = []
    for name, (updates, values) in curves.items():
        indices = [i for i in thinned_indices(len(updates), limit) if math.isfinite(values[i])]
        # A table travels in binary, 16 bytes a point.
        points = {"x": [updates[i] for i in indices], "y": [values[i] for i in indices]}
        line = alt.Chart(pyarrow.table(points)).mark_line(
            point=len(indices) <= 30, strokeWidth=2, opacity=FAINT if name in faint else 1.0
        )
        layers.append(
            line.encode(
                x=alt.X("x:Q", title=_("更新", "count"), axis=alt.Axis(format=",d", tickMinStep=1)),
                y=alt.Y("y:Q", title=y, scale=alt.Scale(zero=False)),
                color=alt.ColorDatum(name),
                tooltip=[
                    alt.Tooltip("x:Q", title=_("更新", "count"), format=","),
                    alt.Tooltip("y:Q", title=name, format=".4g"),
                ],
            )
        )
    chart = (
        alt.layer(*layers)
        .properties(height=HEIGHT)
        .configure_legend(title=None, orient="top", symbolOpacity=1.0)
        .interactive(bind_y=False)
    )
    st.altair_chart(
        chart, width="stretch", alt=_("{curves}の折れ線グラフ").format(curves=_("、").join(curves))
    )


def loss_chart(train: Curve, valid: Curve, smoothing: float) -> None:
    """Training loss, smoothed before it is thinned, the raw one pale, and validation loss."""
    updates, losses = train
    name, raw = _("学習（平滑化）") if smoothing else _("学習"), _("学習（そのまま）")
    curves: dict[str, Curve] = {name: (updates, smoothed(losses, smoothing)), _("検証"): valid}
    if smoothing:
        curves[raw] = train
    line_chart({name: curve for name, curve in curves.items() if curve[0]}, _("損失"), [raw])


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average without the pull towards the first value; `weight` 0 to <1 is
    what stays of the past. A value that is not finite leaves the average as it was."""
    average, scale, averages = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average = weight * average + (1.0 - weight) * value
            scale = weight * scale + (1.0 - weight)
        averages.append(average / scale if scale else math.nan)
    return averages


def thinned_indices(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices of `count` points, evenly spread, first and last among them."""
    if count <= limit:
        return list(range(count))
    step = (count - 1) / (limit - 1)
    return [round(number * step) for number in range(limit)]
