"""Charts with Japanese axes and tooltips. Data goes to the browser with at most 1,000 points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from mlx_finetuning.ui.components.curves import kept, smoothed

Curve = tuple[Sequence[int], Sequence[float]]
"""Updates and values, of equal length."""
HEIGHT = 320
_LIMIT = 1000


def line_chart(curves: Mapping[str, Curve], y: str, x: str = "更新", height: int = HEIGHT) -> None:
    """One line per named curve; together at most 1,000 points. Values that are not finite are
    left out."""
    import altair as alt

    names = list(curves)
    rows = _rows(curves, x, y)
    hover = alt.selection_point(fields=["系列"], bind="legend")
    chart = (
        alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]
        .mark_line(clip=True, strokeWidth=2, point=len(rows) <= 2 * len(names))
        .encode(
            x=alt.X(f"{x}:Q", title=x, axis=alt.Axis(format=",d", tickMinStep=1)),
            y=alt.Y(f"{y}:Q", title=y, scale=alt.Scale(zero=False)),
            color=alt.Color("系列:N", sort=names, title=None, legend=alt.Legend(orient="top")),
            opacity=alt.when(hover).then(alt.value(1.0)).otherwise(alt.value(0.15)),
            tooltip=[
                "系列:N",
                alt.Tooltip(f"{x}:Q", format=","),
                alt.Tooltip(f"{y}:Q", format=".4g"),
            ],
        )
        .add_params(hover)
        .properties(height=height)
    )
    st.altair_chart(chart, width="stretch", alt=f"{'、'.join(names)}の折れ線グラフ")


def loss_chart(train: Curve, valid: Curve, smoothing: float) -> None:
    """Training loss, smoothed before it is thinned and raw behind it, and validation loss."""
    curves: dict[str, Curve] = {}
    if train[0]:
        curves["学習（平滑化）" if smoothing else "学習"] = (
            train[0],
            smoothed(train[1], smoothing),
        )
    if smoothing and train[0]:
        curves["学習（そのまま）"] = train
    if valid[0]:
        curves["検証"] = valid
    line_chart(curves, y="損失")


def _rows(curves: Mapping[str, Curve], x: str, y: str) -> list[dict[str, object]]:
    limit = max(_LIMIT // max(len(curves), 1), 2)
    return [
        {"系列": name, x: updates[at], y: round(values[at], 5)}
        for name, (updates, values) in curves.items()
        for at in kept(len(updates), limit)
        if abs(values[at]) < float("inf")
    ]
