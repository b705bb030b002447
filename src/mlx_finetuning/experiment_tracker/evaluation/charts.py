"""Small charts as inline SVG: curves over updates, bars, and intervals. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mlx_finetuning.experiment_tracker.evaluation.results import Curve
from mlx_finetuning.language import _

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 34
MOST_DOTS = 30
"""Points of a line that are marked each; of more, only the line is drawn."""


def curves(series: Sequence[tuple[str, Curve]], x_label: str, y_label: str) -> str:
    """Lines of (CSS class, [x, y] points) in one frame; values that are not finite are left out."""
    lines = [
        (kind, [(x, y) for x, y in points if y is not None and math.isfinite(y)])
        for kind, points in series
    ]
    finite = [point for __, points in lines for point in points]
    if len(finite) < 2:
        return ""
    xs, ys = _axis([x for x, __ in finite]), _axis([y for __, y in finite])

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / (xs[-1] - xs[0])
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = []
    for mark in ys:
        x, y = to_pixels(xs[0], mark)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(_text("axis", x - 6, y + 4, f"{mark:g}", "end"))
    for mark in xs:
        x, y = to_pixels(mark, ys[0])
        parts.append(_text("axis", x, y + 16, f"{mark:g}", "middle"))
    for kind, points in lines:
        pixels = [to_pixels(*point) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        if len(pixels) <= MOST_DOTS:
            parts += [
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in pixels
            ]
    parts.append(_text("axis", WIDTH - RIGHT, HEIGHT - 4, x_label, "end"))
    return _svg(WIDTH, HEIGHT, _("{y_label}の推移").format(y_label=y_label), "".join(parts))


def _axis(values: Sequence[float]) -> list[float]:
    """Round marks from below the smallest to above the largest value."""
    low, high = min(values), max(values)
    if high == low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(mark * step, 10) for mark in range(first, last + 1)]


def intervals(rows: Sequence[tuple[str, str, float, float, float]]) -> str:
    """Estimates with their intervals: (name, CSS class, value, low, high), one below another."""
    if not rows:
        return ""
    label, line = 190, 30
    height = line * len(rows) + 24
    marks = _axis([0.0, *(end for *__, low, high in rows for end in (low, high))])
    scale = (WIDTH - label - 70) / (marks[-1] - marks[0])
    parts = []
    for mark in marks:
        x = label + (mark - marks[0]) * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - 20}"/>')
        parts.append(_text("axis", x, height - 4, f"{mark:g}", "middle"))
    for at, (name, kind, value, low, high) in enumerate(rows):
        y = 18 + at * line
        left, middle, right = (label + (end - marks[0]) * scale for end in (low, value, high))
        parts.append(_text("label", label - 10, y + 4, name, "end"))
        parts.append(
            f'<line class="whisker {kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="{kind}" cx="{middle:.1f}" cy="{y}" r="5"/>')
        parts.append(_text("value", right + 8, y + 4, f"{value:.3f}"))
    return _svg(WIDTH, height, _("損失と95%信頼区間"), "".join(parts))


def bars(rows: Sequence[tuple[str, float, str]], title: str) -> str:
    """Bars from the left: (name, value, shown value), one below another."""
    if not rows:
        return ""
    label, line = 120, 24
    height = line * len(rows) + 8
    largest = max(value for __, value, __ in rows) or 1.0
    parts = []
    for at, (name, value, shown) in enumerate(rows):
        y = 4 + at * line
        width = (WIDTH - label - 130) * value / largest
        parts.append(_text("label", label - 10, y + 15, name, "end"))
        parts.append(
            f'<rect class="bar" x="{label}" y="{y + 3}" width="{max(width, 1):.1f}" height="15" rx="3"/>'
        )
        parts.append(_text("value", label + width + 8, y + 15, shown))
    return _svg(WIDTH, height, title, "".join(parts))


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> str:
    """kind: a CSS class; anchor: which end of the text is at `x`."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _svg(width: int, height: int, title: str, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )
