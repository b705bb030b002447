"""Characters on a page → lines in reading order, and tables.

Vertical pages are turned by a quarter first, so that their columns are lines from top to bottom: all
else is the same for both. Lines are told apart by height, cells by gaps and ruled lines, columns of
text by the gutter between them. Ruby, small letters beside a line, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlx_finetuning.documents.readers.glyphs import Glyph, Ruling
from mlx_finetuning.documents.readers.page_lines import Part, lines_of, parts_of
from mlx_finetuning.documents.readers.page_tables import cells_of, grids_of
from mlx_finetuning.documents.readers.reading_order import bands_of


@dataclass(frozen=True)
class Line:
    """A line of text, or a part of one that stands apart."""

    text: str
    start: float
    end: float
    """Along the line."""
    at: float
    """How far down the page, in reading direction."""
    size: float
    """Of its letters, in points."""
    column_start: float
    column_end: float
    """Where the column of text that it belongs to begins and ends."""
    page_bottom: float
    page_top: float
    """Where it lies on the page as it is seen."""

    @property
    def is_full(self) -> bool:
        """Whether it was broken for its length."""
        is_wide = self.column_end - self.column_start > 12 * self.size
        return is_wide and self.end > self.column_end - 2 * self.size


@dataclass(frozen=True)
class LaidTable:
    """A table, and where it stands."""

    rows: tuple[tuple[str, ...], ...]
    at: float
    """How far down the page it begins, in reading direction."""


@dataclass(frozen=True)
class PageLayout:
    """A page's lines and tables."""

    number: int
    height: float
    lines: tuple[Line, ...]
    tables: tuple[LaidTable, ...]


def lay_out(
    glyphs: Sequence[Glyph], rulings: Sequence[Ruling], number: int, height: float
) -> PageLayout:
    """The lines and tables of a page."""
    is_vertical = _is_vertical(glyphs)
    if is_vertical:
        glyphs = [
            glyph._replace(x0=-glyph.y1, y0=glyph.x0, x1=-glyph.y0, y1=glyph.x1) for glyph in glyphs
        ]
        rulings = [Ruling(-line.y1, line.x0, -line.y0, line.x1) for line in rulings]
    grids = grids_of(rulings)
    inside: list[list[Glyph]] = [[] for _ in grids]
    free: list[Glyph] = []
    for glyph in glyphs:
        held = next((at for at, grid in enumerate(grids) if grid.holds(glyph)), None)
        (free if held is None else inside[held]).append(glyph)
    tables = [
        LaidTable(grid.rows(held), -grid.ys[-1])
        for grid, held in zip(grids, inside, strict=True)
        if held
    ]
    lines: list[Line] = []
    for band in bands_of([Part(part) for line in lines_of(free) for part in parts_of(line)]):
        if rows := cells_of(band):
            tables.append(LaidTable(rows, -max(part.y1 for part in band)))
        else:
            start, end = min(part.x0 for part in band), max(part.x1 for part in band)
            lines += [
                Line(
                    part.text,
                    part.x0,
                    part.x1,
                    -part.y1,
                    part.size,
                    start,
                    end,
                    *((-part.x1, -part.x0) if is_vertical else (part.y0, part.y1)),
                )
                for part in band
                if part.text
            ]
    return PageLayout(number, height, tuple(lines), tuple(tables))


def _is_vertical(glyphs: Sequence[Glyph]) -> bool:
    down = across = 0
    for one, other in pairwise(glyph for glyph in glyphs if not glyph.text.isspace()):
        size = max(one.size, other.size)
        x, y = other.x0 - one.x0, other.y0 - one.y0
        down += abs(x) < 0.3 * size and -2 * size < y < -0.3 * size
        across += abs(y) < 0.3 * size and 0 < x < 2 * size
    return down > across
