"""Characters and ruled lines as they stand on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

THICKEST = 2.5
"""Points of a line that is drawn; what is thicker is an area."""


TOUCHING = 3.0
"""Points between ruled lines that meet."""


class Glyph(NamedTuple):
    """A character and its box, in points from the page's lower left corner."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float


class Ruling(NamedTuple):
    """A line drawn along one of the page's edges."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def is_horizontal(self) -> bool:
        """Along the page's width."""
        return self.x1 - self.x0 >= self.y1 - self.y0

    def meets(self, other: Ruling) -> bool:
        """Whether both touch or cross."""
        return (
            self.x0 - TOUCHING <= other.x1
            and other.x0 - TOUCHING <= self.x1
            and self.y0 - TOUCHING <= other.y1
            and other.y0 - TOUCHING <= self.y1
        )


def text_of(glyphs: Sequence[Glyph]) -> str:
    """In order; a gap is a space, a smaller one between Western letters too."""
    signs: list[str] = []
    for before, glyph in zip((None, *glyphs), glyphs, strict=False):
        gap = glyph.x0 - before.x1 if before else 0.0
        is_western = before is not None and (before.text + glyph.text).isascii()
        if gap > (0.18 if is_western else 0.7) * glyph.size:
            signs.append(" ")
        signs.append(glyph.text)
    text = "".join(signs).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return " ".join(text.replace("\u3000", " ").split())
