"""Parts of lines in the order in which they are read: over the page's width, or column by column."""

from __future__ import annotations

from collections.abc import Sequence

from mlx_finetuning.documents.readers.page_lines import Part, same_line
from mlx_finetuning.documents.readers.page_tables import cells_of, is_prose


def bands_of(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts of a page in reading order: over its whole width, or one column of text after the other.
    What stands on one side of a gutter may be columns again."""
    gutter = _gutter(parts)
    if gutter is None:
        return _runs(parts)
    bands: list[list[Part]] = []
    left: list[Part] = []
    right: list[Part] = []
    whole: list[Part] = []
    for part in parts:
        if part.x0 < gutter < part.x1:
            bands += [*bands_of(left), *bands_of(right)]
            left, right = [], []
            whole.append(part)
        else:
            bands += _runs(whole)
            whole = []
            (left if part.x1 <= gutter else right).append(part)
    return [*bands, *_runs(whole), *bands_of(left), *bands_of(right)]


def _gutter(parts: Sequence[Part]) -> float | None:
    """Where the space between two columns of text lies; None where the text is one column."""
    if len(parts) < 8:
        return None
    first, last = min(part.x0 for part in parts), max(part.x1 for part in parts)
    best, fewest = None, int(len(parts) * 0.2) + 1
    for step in range(30, 71):
        x = first + (last - first) * step / 100
        sides = [part for part in parts if part.x1 <= x], [part for part in parts if part.x0 >= x]
        crossing = len(parts) - sum(map(len, sides))
        is_divided = min(map(len, sides)) >= 4 and all(map(is_prose, sides))
        if is_divided and crossing < fewest:
            best, fewest = x, crossing
    return best


def _runs(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts of lines below each other, divided where lines of several parts begin or end: those may be
    a table."""
    runs: list[list[Part]] = []
    was_divided = None
    for line in same_line(parts):
        divided = len(line) > 1
        if divided != was_divided:
            runs.append([])
        runs[-1] += line
        was_divided = divided
    # A table's row may have one cell only; what is no table is text, whose lines belong together.
    merged: list[list[Part]] = []
    for run in runs:
        if merged and not cells_of(run) and not cells_of(merged[-1]):
            merged[-1] += run
        else:
            merged.append(run)
    return merged
